"""The transfer experiment: what the source does not see, the same draws each time, and resuming by draw."""

from __future__ import annotations

import copy
import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from nephros.data.split import Split
from nephros.errors import FileError, UnknownName
from nephros.experiments.transfer import (
    TransferRow,
    draw_labels,
    source_dataset,
    task_splits,
    transfer_tasks,
    without_labels,
)
from nephros.exporters.pretrained import open_pretrained
from nephros.files import file_lock
from nephros.reporting.plots.transfer import plot_transfer
from nephros.reporting.transfer import conclusions, write_transfer_table
from nephros.workflows.transfer import (
    planned_tasks,
    read_rows,
    replace_rows,
    reproduce_transfer,
    select_tasks,
    starting_classifier,
    with_todays_choice,
    write_rows,
)
from tests.conftest import squares_dataset, write_npz

ROWS = [
    TransferRow("task", size, draw, method, accuracy + 0.01 * draw, 0.5, 1.0, "head" if method == "finetune" else "")
    for size, accuracies in ((10, (0.5, 0.4, 0.5)), (20, (0.6, 0.4, 0.55)))
    for method, accuracy in zip(("head", "scratch", "finetune"), accuracies, strict=True)
    for draw in range(2)
]


def test_the_source_has_none_of_the_classes_to_learn() -> None:
    dataset = squares_dataset(n=3600, classes=8)
    task = next(task for task in transfer_tasks() if task.classes == (2, 4, 5))
    source = source_dataset(dataset, task.classes)
    assert source.class_names == tuple(f"kind {c}" for c in (0, 1, 3, 6, 7))
    assert len(source.train) == sum(int(label) not in task.classes for label in dataset.train.labels)
    assert source.provenance.detail != dataset.provenance.detail
    pool, held_out, names = task_splits(task, dataset)
    assert names == ("kind 2", "kind 4", "kind 5")
    old = dataset.train.labels[np.isin(dataset.train.labels, task.classes)]
    np.testing.assert_array_equal(np.array(task.classes)[pool.labels], old)
    assert len(held_out) == np.isin(dataset.val.labels, task.classes).sum()


def test_half_of_train_is_held_out_where_validation_is_small() -> None:
    task = next(task for task in transfer_tasks() if task.key == "breast-nephros-fast")
    dataset = squares_dataset(n=400, classes=2)
    assert len(dataset.val) < 300
    pool, held_out, names = task_splits(task, dataset)
    assert names == dataset.class_names
    assert len(pool) == len(dataset.train) // 2
    assert len(held_out) == len(dataset.val) + len(dataset.train) - len(pool)
    np.testing.assert_array_equal(np.bincount(pool.labels), np.bincount(dataset.train.labels) // 2)
    assert not {image.tobytes() for image in pool.images} & {image.tobytes() for image in held_out.images}


def test_draws_are_balanced_reproducible_and_different() -> None:
    pool, _, _ = task_splits(transfer_tasks()[0], squares_dataset(n=320, classes=8))
    first, again, other = (draw_labels(pool, 5, draw) for draw in (0, 0, 1))
    assert first is not None
    assert other is not None
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(np.bincount(pool.labels[first]), [5, 5, 5])
    assert draw_labels(pool, 1000, 0) is None
    others = without_labels(pool, first, 0)
    drawn = {image.tobytes() for image in pool.images[first]}
    assert len(others) == len(pool) - len(first)
    assert not drawn & {image.tobytes() for image in others}


def test_the_table_states_leads_and_losses(tmp_path: Path) -> None:
    lead, loss = conclusions(ROWS)
    assert "+15.0 points" in lead
    assert "5.0 points below" in loss
    files = write_transfer_table(sorted(ROWS, key=lambda row: -row.labels_per_class), tmp_path)
    assert all(file.stat().st_size for file in files)
    header, *lines = files[0].read_text().splitlines()
    assert header == "task,labels_per_class,draws,head,scratch,finetune,finetune_sd,finetune_macro_f1"
    assert lines == ["task,10,2,0.5050,0.4050,0.5050,0.0071,0.5000", "task,20,2,0.6050,0.4050,0.5550,0.0071,0.5000"]
    draws = read_rows(tmp_path / "transfer-draws.csv")
    assert [row.cell for row in draws] == sorted(row.cell for row in ROWS)
    assert set(draws) == set(ROWS)


def test_the_figure_leaves_out_points_of_few_draws_where_others_have_more() -> None:
    single = [dataclasses.replace(row, task="single") for row in ROWS if row.draw == 0]
    partial = [row for row in ROWS if row.draw == 0 or row.labels_per_class == 20]
    for rows, titles, sizes in (
        (ROWS + single, ["task"], [10, 20]),
        (single, ["single"], [10, 20]),
        (partial, ["task"], [20]),
    ):
        panels = plot_transfer(rows).axes
        assert [axes.get_title(loc="left") for axes in panels] == titles
        assert np.asarray(panels[0].lines[0].get_xdata()).tolist() == sizes


def test_rows_are_read_back_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    assert read_rows(path) == []
    write_rows(path, ROWS)
    assert read_rows(path) == ROWS
    path.write_text("task,labels_per_class\nrare,many\n")
    with pytest.raises(FileError) as exc_info:
        read_rows(path)
    assert exc_info.value.path == path


def test_rows_that_other_processes_wrote_stay(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    first, second = ROWS[:2], [dataclasses.replace(row, task="other") for row in ROWS]
    assert replace_rows(path, "task", first) == first
    assert replace_rows(path, "other", second) == [*first, *second]
    assert replace_rows(path, "task", ROWS) == [*ROWS, *second]
    assert read_rows(path) == [*ROWS, *second]


def test_a_task_that_another_process_carries_out_is_left_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nephros")
    folder = tmp_path / "transfer"
    write_rows(folder / "rows.csv", ROWS)
    with file_lock(folder / ".rare-nephros-fast.lock"):
        tables = reproduce_transfer("no-such-data", only=["rare-nephros-fast"], runs=tmp_path, epochs=1, device="cpu")
    assert "rare-nephros-fast: left to the process that is carrying it out" in caplog.text
    assert tables[0].parent == folder
    assert read_rows(folder / "rows.csv") == ROWS


def test_the_choice_among_earlier_draws_is_that_of_today() -> None:
    def rows(head: str, network: str) -> list[TransferRow]:
        values = (("head", 0.5, head), ("network", 0.7, network), ("finetune", 0.1, "last-stage"))
        return [
            TransferRow("task", 100, 0, name, accuracy, accuracy - 0.1, 1.0, detail)
            for name, accuracy, detail in values
        ]

    for head, network, accuracy, chosen in (("0.6", "0.59", 0.7, "network"), ("0.9", "0.2", 0.5, "head")):
        earlier = rows(head, network)
        assert with_todays_choice(earlier[0], earlier, 3) == earlier[0]
        today = with_todays_choice(earlier[2], earlier, 3)
        assert (today.accuracy, today.macro_f1, today.detail) == (accuracy, accuracy - 0.1, chosen)
    without_estimates = rows("", "0.5")
    assert with_todays_choice(without_estimates[2], without_estimates, 3) == without_estimates[2]


def test_training_begins_with_the_function_of_a_bundled_model() -> None:
    bright = squares_dataset(n=64, classes=2).train
    images = 120 + bright.images // 4
    start = open_pretrained("nephros-fast")
    classifier = starting_classifier(start, Split(images, bright.labels), seed=0)
    cells = torch.from_numpy(images)[:, None]
    with torch.no_grad():
        expected, evaluated = (model.eval()(cells) for model in (start.classifier, classifier))
        trained, as_stored = (copy.deepcopy(model).train()(cells) for model in (classifier, start.classifier))
    torch.testing.assert_close(evaluated, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(trained, expected, rtol=0.05, atol=0.05)
    assert (as_stored - expected).abs().max() > 1


def test_tasks_are_chosen_by_key(tmp_path: Path) -> None:
    assert [task.key for task in select_tasks(["breast-nephros-fast"])] == ["breast-nephros-fast"]
    with pytest.raises(UnknownName) as exc_info:
        select_tasks(["rare"])
    assert "rare-nephros-fast" in exc_info.value.options
    rows = [dataclasses.replace(row, task="breast-nephros-fast") for row in ROWS]
    write_rows(tmp_path / "transfer" / "rows.csv", rows)
    assert planned_tasks(["breast-nephros-fast"], tmp_path)[0][1] == "4 of 30 draws"


@pytest.mark.slow
@pytest.mark.usefixtures("reports_without_figures")
def test_a_task_is_carried_out_and_resumed(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "eight.npz", squares_dataset(n=640, classes=8))
    options = {"only": ["rare-nephros-fast"], "runs": tmp_path / "runs", "epochs": 1, "device": "cpu"}
    few = {"labels_per_class": (6, 1000), "draws": (0, 1), "methods": ("head",)}
    table, *_ = reproduce_transfer(str(data), **options, **few)  # type: ignore[arg-type]
    rows_file = tmp_path / "runs" / "transfer" / "rows.csv"
    rows = read_rows(rows_file)
    methods = {"head", "knn-pixels", "forest-pixels", "knn-features", "lda", "prototypes", "finetune"}
    assert {row.method for row in rows} == methods
    assert {row.cell for row in rows} == {("rare-nephros-fast", 6, draw) for draw in range(2)}
    by_method = {row.method: row for row in rows if row.draw == 0}
    assert by_method["finetune"].accuracy == by_method[by_method["finetune"].detail].accuracy
    assert by_method["head"].accuracy > 0.5
    write_rows(rows_file, [row for row in rows if row.draw == 0])
    assert reproduce_transfer(str(data), **options, **few)[0] == table  # type: ignore[arg-type]
    again = read_rows(rows_file)
    assert [(row.cell, row.method, row.accuracy) for row in again] == [
        (row.cell, row.method, row.accuracy) for row in rows
    ]
