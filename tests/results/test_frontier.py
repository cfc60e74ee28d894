"""The frontier's table and figure against the records of its runs, and the readings of test of its ensembles."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from nephros.data.dataset import Dataset
from nephros.evaluation.scoring import load_run_model
from nephros.files import file_digest
from nephros.inference.bundled import bundled_file
from nephros.inference.model_names import bundled_card
from nephros.runs import RunFolder
from results import ensembles, frontier, lineage
from results.figure_data import shows

HERE = frontier.HERE
BUNDLED = {"third-64": "nephros-distilled", "second-32": "nephros-fast", "second-128": "nephros-large"}
EARLIER_BUNDLED = ("student-64", "student-128", "second-64")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return frontier.frontier_rows()


def _row(rows: list[dict[str, str]], network: str) -> dict[str, str]:
    (row,) = (row for row in rows if row["network"].split(" (")[0] == network)
    return row


@pytest.mark.parametrize("network", frontier.NETWORKS)
def test_a_row_has_the_figures_of_its_record(rows: list[dict[str, str]], network: str) -> None:
    row, folder = _row(rows, network), HERE / "frontier-runs" / network
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    with open(folder / "history.csv", encoding="utf-8", newline="") as file:
        epochs = list(csv.DictReader(file))
    tta = json.loads((folder / "val" / "metrics.json").read_text(encoding="utf-8"))
    assert float(row["val_accuracy"]) == pytest.approx(float(epochs[-1]["val_accuracy"]), abs=5.1e-5)
    if info["tta_views"] > 1:
        assert float(row["val_tta"]) == pytest.approx(tta["accuracy"], abs=5.1e-5)
    else:
        reading = bundled_card(BUNDLED[network])["tta"]
        assert reading is not None
        assert float(row["val_tta"]) == pytest.approx(reading["validation"]["accuracy"], abs=5.1e-5)
    assert int(row["epochs"]) == len(epochs)
    for key in ("parameters", "multiply_adds"):
        assert int(row[key]) == info[key]
    assert row["command"] == info["command"]
    assert row["device"] == info["device"]


def test_only_networks_that_are_bundled_have_a_reading_of_test(rows: list[dict[str, str]]) -> None:
    for network in frontier.NETWORKS:
        row = _row(rows, network)
        if network in EARLIER_BUNDLED:
            before = json.loads((HERE / "frontier-runs" / network / "test.json").read_text(encoding="utf-8"))
            assert (row["test_accuracy"], row["test_tta"]) == (before["test_accuracy"], before["test_tta"])
            continue
        if network not in BUNDLED:
            assert not row["test_accuracy"]
            assert not row["test_tta"]
            continue
        card = bundled_card(BUNDLED[network])
        assert row["network"] == f"{network} (bundled as {BUNDLED[network]})"
        assert float(row["test_accuracy"]) == pytest.approx(card["test_accuracy"], abs=5.1e-5)
        tta = card.get("tta")
        assert row["test_tta"] == (f"{tta['test_accuracy']:.4f}" if tta and tta["test_accuracy"] else "")


def test_rows_stand_by_rising_cost(rows: list[dict[str, str]]) -> None:
    costs = [int(row["multiply_adds"]) for row in rows]
    assert costs == sorted(costs)
    assert len({row["network"] for row in rows}) == len(rows) == len(frontier.NETWORKS) + 3


def test_the_cost_of_training_includes_teachers_and_starts_once(rows: list[dict[str, str]]) -> None:
    n_images, macs = 165_380, {"64": 63_563_776, "128": 253_349_888, "160": 395_576_320, "deep": 250_174_464}
    first = 5 * n_images * macs["64"]  # the answers of nephros-distilled
    teachers = 3 * first + 3 * 18 * n_images * (macs["128"] + macs["160"] + macs["deep"])
    answers = 5 * n_images * (macs["128"] + macs["160"] + macs["deep"])
    student = answers + 3 * 16 * n_images * macs["64"]
    on_a_cpu = float(_row(rows, "nephros-distilled")["with_teachers_and_starts"])
    row = _row(rows, "student-64")
    assert float(row["training_multiply_adds"]) == pytest.approx(student, rel=0.005)
    assert float(row["with_teachers_and_starts"]) == pytest.approx(student + teachers + on_a_cpu, rel=0.005)
    nephros = float(_row(rows, "nephros")["training_multiply_adds"])
    assert on_a_cpu == pytest.approx(3 * nephros + 2 * first, rel=0.005)


def test_todays_bundled_models_are_known_as_teachers() -> None:
    for network, model in BUNDLED.items():
        digest = file_digest(bundled_file("model.safetensors", model))
        assert lineage.BUNDLED[digest[:8]] == network


def test_a_later_record_gets_a_row_and_the_curve_has_the_best_of_equal_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in HERE.iterdir():
        if path.name != "frontier-runs":
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(HERE / "frontier-runs", tmp_path / "frontier-runs")
    shutil.copytree(HERE / "frontier-runs/third-64", tmp_path / "frontier-runs/fourth-64")
    history = tmp_path / "frontier-runs/fourth-64/history.csv"
    accuracy = float(_row(frontier.frontier_rows(), "third-64")["val_accuracy"])
    *lines, last = history.read_text(encoding="utf-8").splitlines()
    columns = lines[0].split(",")
    cells = dict(zip(columns, last.split(","), strict=True)) | {"val_accuracy": "0.7559"}
    history.write_text("\n".join([*lines, ",".join(cells.values())]) + "\n", encoding="utf-8")
    monkeypatch.setattr(frontier, "HERE", tmp_path)
    rows = frontier.frontier_rows()
    assert float(_row(rows, "fourth-64")["val_accuracy"]) == 0.7559 > accuracy
    (axes,) = frontier.plot_frontier(rows, tmp_path / "figure.png").axes
    curves = [np.asarray(line.get_xydata()) for line in axes.lines if line.get_alpha() == 0.5]
    costs, accuracies = curves[0].T
    assert (np.diff(costs) > 0).all()
    assert 0.7559 in accuracies
    assert accuracy not in accuracies


def test_the_table_and_the_figure_on_disk_are_of_these_rows(rows: list[dict[str, str]]) -> None:
    with open(HERE / "frontier.csv", encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == rows, "run `python -m results.fill`"
    assert shows(HERE / "frontier.png", frontier.figure_numbers(rows)), "run `python -m results.fill`"


def _points(figure: Figure, marker: str) -> set[tuple[float, float]]:
    (axes,) = figure.axes
    lines = [np.asarray(line.get_xydata()) for line in axes.lines if line.get_marker() == marker]
    return {(float(x), float(y)) for line in lines for x, y in line}


def test_the_figure_shows_each_accuracy_at_its_cost(rows: list[dict[str, str]], tmp_path: Path) -> None:
    figure = frontier.plot_frontier(rows, tmp_path / "frontier.png")
    validation = {(float(row["multiply_adds"]), float(row["val_accuracy"])) for row in rows}
    test = {(float(row["multiply_adds"]), float(row["test_accuracy"])) for row in rows if row["test_accuracy"]}
    assert _points(figure, "o") == validation
    assert _points(figure, "x") == test
    (axes,) = figure.axes
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert all(left < x < right and low < y < high for x, y in validation | test)
    assert shows(tmp_path / "frontier.png", frontier.figure_numbers(rows))
    changed = [{**row, "val_accuracy": "0.7000"} for row in rows]
    assert not shows(tmp_path / "frontier.png", frontier.figure_numbers(changed))


@pytest.fixture
def runs(run_folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three runs by the names of the students, and an empty log of readings."""
    for name in frontier.STUDENTS:
        (tmp_path / "runs" / name).mkdir(parents=True)
        for file in ("run.json", "recipe.yaml", "weights.safetensors"):
            (tmp_path / "runs" / name / file).write_bytes((run_folder.root / file).read_bytes())
    monkeypatch.setattr(ensembles, "TEST_READS", tmp_path / "reads.jsonl")
    return tmp_path / "runs"


def _keep_probabilities(
    runs: Path, split: str, labels: NDArray[np.int64], right: dict[str, float]
) -> dict[str, NDArray[np.float64]]:
    """Write probabilities of each network, of which a share has the true class in front, and the others the next one."""
    generator, kept = np.random.default_rng(0), {}
    for name, share in right.items():
        p = generator.dirichlet(np.ones(4), len(labels))
        is_right = np.arange(len(labels)) < share * len(labels)
        p = 0.4 * p + 0.6 * np.eye(4)[np.where(is_right, labels, (labels + 1) % 4)]
        (runs / name / split).mkdir(exist_ok=True)
        np.savez_compressed(runs / name / split / "image-alone.npz", p=p)
        kept[name] = p
    return kept


def test_an_ensemble_has_the_figures_of_the_mean_of_its_networks(runs: Path, tiny_dataset: Dataset) -> None:
    labels = tiny_dataset.val.labels
    kept = _keep_probabilities(runs, "val", labels, {"student-64": 0.3, "student-128": 0.6, "student-160": 0.7})
    rows = {row["networks"]: row for row in ensembles.ensemble_rows(runs, tiny_dataset)}
    assert len(rows) == 6
    cost = RunFolder.open(runs / "student-64").info().multiply_adds
    for networks, row in rows.items():
        names = networks.split(" + ")
        mean = np.stack([kept[name] for name in names]).mean(0)
        assert float(row["val_accuracy"]) == pytest.approx(accuracy_score(labels, mean.argmax(1)), abs=5.1e-5)
        assert float(row["val_macro_f1"]) == pytest.approx(
            f1_score(labels, mean.argmax(1), average="macro"), abs=5.1e-5
        )
        assert float(row["val_auc"]) == pytest.approx(roc_auc_score(labels, mean, multi_class="ovr"), abs=5.1e-5)
        assert int(row["multiply_adds"]) == len(names) * cost
        assert not row["test_accuracy"]
    assert not ensembles.TEST_READS.exists()


def test_test_is_read_once_for_the_best_ensemble_on_validation(
    runs: Path, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    _keep_probabilities(
        runs, "val", tiny_dataset.val.labels, {"student-64": 0.1, "student-128": 0.9, "student-160": 0.9}
    )
    rows = ensembles.ensemble_rows(runs, tiny_dataset, reads_test=True)
    entries = [json.loads(line) for line in ensembles.TEST_READS.read_text(encoding="utf-8").splitlines()]
    assert [entry["model"] for entry in entries] == ["student-128", "student-160"]
    info = RunFolder.open(runs / "student-128").info()
    assert {(entry["weights_sha256"], entry["tta_views"]) for entry in entries} == {(info.weights_sha256, 1)}
    model = load_run_model(RunFolder.open(runs / "student-128"))
    with torch.no_grad():
        predicted = model(torch.from_numpy(np.array(tiny_dataset.test.images))[:, None]).argmax(1).numpy()
    read = {row["networks"]: float(row["test_accuracy"]) for row in rows if row["test_accuracy"]}
    accuracy = accuracy_score(tiny_dataset.test.labels, predicted)  # both networks have the same weights here
    assert read == {"student-128 + student-160": pytest.approx(accuracy, abs=5.1e-5)}

    (row,) = (row for row in rows if row["test_accuracy"])
    low, high = (float(row[f"test_{end}"]) for end in ("low", "high"))
    assert low <= accuracy <= high
    assert high - low == pytest.approx(wilson_width(accuracy, len(tiny_dataset.test)), abs=1.1e-4)

    monkeypatch.setattr(ensembles, "run_module", None)  # nothing is predicted again
    assert ensembles.ensemble_rows(runs, tiny_dataset, reads_test=True) == rows
    assert ensembles.ensemble_rows(runs, tiny_dataset, rows) == rows
    assert len(ensembles.TEST_READS.read_text(encoding="utf-8").splitlines()) == 2


def wilson_width(p: float, n: int) -> float:
    """Return the width of the 95% interval of a share `p` of `n` (Wilson 1927)."""
    z = 1.959963984540054
    return float(2 * z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n))


def test_a_reading_that_fails_has_its_entry(runs: Path, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    _keep_probabilities(runs, "val", tiny_dataset.val.labels, dict.fromkeys(frontier.STUDENTS, 0.5))

    def fail(*_args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ensembles, "run_module", fail)
    with pytest.raises(MemoryError):
        ensembles.ensemble_rows(runs, tiny_dataset, reads_test=True)
    assert len(ensembles.TEST_READS.read_text(encoding="utf-8").splitlines()) == 1


def test_the_ensembles_table_has_test_figures_only_where_the_log_has_their_networks() -> None:
    with open(ensembles.TABLE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    logs = [log for log in (ensembles.TEST_READS, HERE / "bundle-test-reads.jsonl") if log.exists()]
    entries = [json.loads(line) for log in logs for line in log.read_text(encoding="utf-8").splitlines()]
    read = {entry.get("weights_sha256") for entry in entries}
    best = max((row for row in rows if "+" in row["networks"]), key=lambda row: float(row["val_accuracy"]))
    for row in rows:
        if row.get("test_accuracy"):
            assert row == best
            for name in row["networks"].split(" + "):
                assert RunFolder.open(HERE / "frontier-runs" / name).info().weights_sha256 in read
