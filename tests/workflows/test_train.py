"""Training in a run folder: what it writes, what it refuses, and how it counts evaluations on the test split."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

import nephros
from nephros.data.dataset import Dataset
from nephros.data.provenance import Provenance
from nephros.data.split import Split
from nephros.errors import FileError, IncompatibleError, InvalidArgument, LockedError, NephrosError, UnknownName
from nephros.evaluation.metrics import CONTEXT_FIELDS, Metrics, compute_metrics
from nephros.evaluation.scoring import Evaluation
from nephros.models.serialization import load_model
from nephros.models.tta import make_tta_views
from nephros.recipe import AugmentConfig, ModelConfig, OptimizerConfig, Recipe
from nephros.runs import RunFolder
from nephros.training.history import read_history
from nephros.workflows.compare import compare
from nephros.workflows.resume import resume
from nephros.workflows.train import train
from tests.conftest import squares_dataset, write_npz

pytestmark = pytest.mark.usefixtures("reports_without_figures")

QUICK = Recipe(
    name="quick",
    model=ModelConfig(network="course", base_channels=4, depth=2, hidden=(16,)),
    optimizer=OptimizerConfig(lr=0.1, momentum=0.9),
    augment=AugmentConfig(flips="dihedral"),
    epochs=2,
    batch_size=32,
)


def _train(data: str | Path | Dataset, out: Path, **kwargs: object) -> RunFolder:
    return train(QUICK, data, out=out, **kwargs)  # type: ignore[arg-type]


@pytest.mark.figures
def test_a_run_folder_holds_everything(tiny_npz: Path, tmp_path: Path) -> None:
    folder = _train(tiny_npz, tmp_path / "run", test=True, command="nephros train quick --test")
    for name in ("recipe.yaml", "run.json", "history.csv", "checkpoint.pt", "weights.safetensors", "report.html"):
        assert folder.file(name).stat().st_size > 0, name
    for split in ("train", "val", "test"):
        metrics = json.loads(folder.file(split, "metrics.json").read_text())
        assert metrics["provenance"]["title"] == "squares"
        assert metrics["recipe_hash"] == QUICK.hash
    assert not folder.file("train", "predictions.npz").exists()
    info = folder.info()
    assert (info.status, info.chosen_epoch, info.command) == ("complete", 2, "nephros train quick --test")
    assert info.class_counts["train"] == [60, 60, 60, 60]
    assert set(info.versions) == {"nephros", "python", "torch", "numpy", "scikit-learn"}
    assert len(folder.test_reads()) == 1
    assert folder.test_reads()[0].recipe_hash == folder.info().recipe_hash


def test_stored_predictions_reproduce_the_metrics(tiny_npz: Path, tmp_path: Path) -> None:
    folder = _train(tiny_npz, tmp_path / "run")
    evaluation = Evaluation.load(folder.file("val", "metrics.json"), folder.file("val", "predictions.npz"))
    labels = nephros.load_dataset(tiny_npz).val.labels
    assert evaluation.probabilities.dtype == np.float64
    assert np.array_equal(evaluation.labels, labels)
    assert np.allclose(evaluation.probabilities.sum(axis=1), 1, atol=1e-12)
    metrics = compute_metrics(evaluation.probabilities, labels, tuple(folder.info().class_names))
    context = {name: getattr(evaluation.metrics, name) for name in CONTEXT_FIELDS}
    assert dataclasses.replace(metrics, **context) == evaluation.metrics


def test_the_test_split_is_read_on_request_only_and_every_reading_is_counted(tiny_npz: Path, tmp_path: Path) -> None:
    folder = _train(tiny_npz, tmp_path / "run")
    assert not folder.file("test", "metrics.json").exists()
    assert folder.test_reads() == []
    for readings in (1, 2):
        nephros.evaluate(folder.root, "test")
        assert len(folder.test_reads()) == readings
    nephros.evaluate(folder.root, "val")
    assert len(folder.test_reads()) == 2


def test_evaluate_reproduces_the_metrics_of_train(tiny_npz: Path, tmp_path: Path) -> None:
    folder = _train(tiny_npz, tmp_path / "run")
    before = json.loads(folder.file("val", "metrics.json").read_text())
    after = nephros.evaluate(folder.root, "val").metrics
    assert after.accuracy == before["accuracy"]
    assert after.loss == pytest.approx(before["loss"], abs=1e-6)


def test_a_run_with_tta_is_evaluated_on_the_mean_over_its_views(tiny_npz: Path, tmp_path: Path) -> None:
    five = dataclasses.replace(QUICK, tta_views=5)
    folder = train(five, tiny_npz, out=tmp_path / "run")
    evaluation = Evaluation.load(folder.file("val", "metrics.json"), folder.file("val", "predictions.npz"))
    model, _ = load_model(folder.file("weights.safetensors"))
    images = torch.from_numpy(nephros.load_dataset(tiny_npz).val.images)[:, None]
    with torch.no_grad():
        view_probabilities = [model(view.apply(images)).double().softmax(1) for view in make_tta_views(5)]
    np.testing.assert_allclose(evaluation.probabilities, torch.stack(view_probabilities).mean(0).numpy(), atol=1e-5)
    assert evaluation.metrics.loss != pytest.approx(read_history(folder.file("history.csv"))[-1].val_loss)
    np.testing.assert_array_equal(nephros.evaluate(folder.root).probabilities, evaluation.probabilities)
    assert [Metrics.from_run(folder, split).tta_views for split in ("train", "val")] == [1, 5]
    assert "5 views at test time" in folder.file("report.html").read_text()
    row = next(row for row in compare([folder.root], split="val").rows if row.is_run)
    assert row.multiply_adds == 5 * folder.info().multiply_adds


def test_tta_with_rotations_needs_square_images(tmp_path: Path) -> None:
    square = squares_dataset()
    train_, val, test = (Split(split.images[:, :16], split.labels) for _, split in square.splits())
    wide = write_npz(tmp_path / "wide.npz", dataclasses.replace(square, train=train_, val=val, test=test))
    with pytest.raises(InvalidArgument, match="16x28") as exc_info:
        train(dataclasses.replace(QUICK, tta_views=8), wide, out=tmp_path / "run")
    assert (exc_info.value.parameter, exc_info.value.value) == ("tta_views", 8)
    with pytest.raises(InvalidArgument) as exc_info:
        dataclasses.replace(QUICK, tta_views=3)
    assert (exc_info.value.parameter, exc_info.value.value) == ("tta_views", 3)
    assert not (tmp_path / "run").exists()


def test_evaluate_on_other_data_leaves_the_run_s_results_unchanged(tiny_npz: Path, tmp_path: Path) -> None:
    folder = _train(tiny_npz, tmp_path / "run")
    before = folder.file("val", "metrics.json").read_text()
    other = write_npz(tmp_path / "others.npz", squares_dataset(n=80))
    nephros.evaluate(folder.root, "val", other)
    assert folder.file("val", "metrics.json").read_text() == before
    (folder_on_other_data,) = folder.root.glob("val-on-others-*")
    metrics = json.loads((folder_on_other_data / "metrics.json").read_text())
    assert metrics["provenance"]["title"] == "others"
    nephros.evaluate(folder.root, "test", other)
    assert folder.test_reads() == []
    (folder_on_other_data,) = folder.root.glob("test-on-others-*")
    assert len((folder_on_other_data / "reads.jsonl").read_text().splitlines()) == 1
    other_classes, other_channels = squares_dataset(n=80, classes=3), squares_dataset(n=80, channels=3)
    for misfit in (other_classes, other_channels, squares_dataset(n=80, size=20)):
        with pytest.raises(IncompatibleError):
            nephros.evaluate(folder.root, "val", misfit)


@pytest.mark.parametrize(("classes", "channels", "size"), [(2, 3, 28), (5, 1, 36)])
def test_any_number_of_classes_channels_and_pixels_works(
    classes: int, channels: int, size: int, tmp_path: Path
) -> None:
    folder = _train(squares_dataset(n=120, classes=classes, channels=channels, size=size), tmp_path / "run", test=True)
    assert len(json.loads(folder.file("test", "metrics.json").read_text())["per_class"]) == classes


@pytest.mark.slow
def test_the_default_recipe_learns_synthetic_cells_and_every_file_name_says_synthetic(tmp_path: Path) -> None:
    from nephros.data.synthetic import make_synthetic

    data = make_synthetic(n_train=480, n_val=80, n_test=80)
    recipe = nephros.RECIPES["nephros"]
    narrow = dataclasses.replace(recipe.model, base_channels=8)  # a fraction of the time
    recipe = dataclasses.replace(recipe, model=narrow, batch_size=48, epochs=4)
    folder = train(recipe, data, out=tmp_path / "run", test=True)
    files = [path for path in folder.root.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path.name for path in files if "synthetic" not in path.name] == []
    assert RunFolder.open(folder.root).synthetic
    metrics = json.loads(folder.file("test", "metrics.json").read_text())
    assert "synthetic" in metrics["provenance"]["title"]
    rows = read_history(folder.file("history.csv"))
    assert rows[-1].train_loss < 0.95 * rows[0].train_loss


def test_an_existing_folder_is_never_overwritten(tiny_npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(NephrosError, match=str(out)):
        _train(tiny_npz, out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_nothing_is_written_when_the_input_can_not_be_used(tiny_npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    small = write_npz(tmp_path / "small.npz", squares_dataset(n=80, size=3))
    single = write_npz(tmp_path / "single.npz", squares_dataset(n=81, size=8))
    lonely = dataclasses.replace(QUICK, model=ModelConfig(network="compact", base_channels=4), batch_size=80)
    unknown = dataclasses.replace(QUICK, model=ModelConfig(network="curse"))
    attempts: list[tuple[Recipe, Path | Dataset, dict[str, object], type[NephrosError], str]] = [
        (unknown, tiny_npz, {}, UnknownName, "Did you mean 'course'"),
        (QUICK, small, {}, IncompatibleError, "too small"),
        (QUICK, tmp_path / "absent.npz", {}, NephrosError, "absent"),
        (lonely, single, {}, InvalidArgument, "batch_size.* 80"),
        (QUICK, tiny_npz, {"subset": 3}, NephrosError, "subset"),
        (QUICK, squares_dataset(), {"subset": 40}, InvalidArgument, "subset"),
        (QUICK, tiny_npz, {"data_seed": -1}, NephrosError, "-1"),
        (QUICK, tiny_npz, {"device": "tpu"}, InvalidArgument, "device.* tpu"),
    ]
    for recipe, data, kwargs, error, message in attempts:
        with pytest.raises(error, match=message):
            train(recipe, data, out=out, **kwargs)  # type: ignore[arg-type]
        assert not out.exists()


def test_a_subset_is_recorded(tiny_npz: Path, tmp_path: Path) -> None:
    info = _train(tiny_npz, tmp_path / "run", subset=40).info()
    assert sum(info.class_counts["train"]) == 40
    assert "subset of 40" in info.data["detail"]


def test_resume_leaves_a_complete_run_unchanged(
    tiny_npz: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _train(tiny_npz, tmp_path / "run")

    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in folder.root.rglob("[!.]*") if path.is_file()}

    before = times()
    caplog.set_level(logging.INFO, "nephros")
    caplog.clear()
    assert resume(folder.root).root == folder.root
    (message,) = caplog.messages
    assert "already complete" in message
    assert times() == before


def test_resume_refuses_changed_data_changed_recipes_and_folders_without_a_run(tiny_npz: Path, tmp_path: Path) -> None:
    folder = _train(tiny_npz, tmp_path / "run")
    folder.write_info(dataclasses.replace(folder.info(), status="training"))
    recipe = folder.file("recipe.yaml").read_text()
    folder.file("recipe.yaml").write_text(recipe.replace("epochs: 2", "epochs: 3"))
    with pytest.raises(FileError, match=r"recipe\.yaml"):
        resume(folder.root)
    folder.file("recipe.yaml").write_text(recipe)
    write_npz(tiny_npz, squares_dataset(n=80))
    with pytest.raises(IncompatibleError, match=str(tiny_npz)):
        resume(folder.root)
    for no_run in (tmp_path, tmp_path / "absent"):
        with pytest.raises(NephrosError, match=str(no_run)):
            resume(no_run)


def test_warnings_about_the_data_are_logged_and_recorded(
    tiny_dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = dataclasses.replace(
        tiny_dataset, warnings=("val has no image of kind 3.",), provenance=Provenance("Squares", "own", "", "1" * 64)
    )
    folder = train(QUICK, data, out=tmp_path / "run")
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert "val has no image of kind 3." in warnings
    of_data, of_steps = folder.info().warnings
    assert of_data == "val has no image of kind 3."
    assert "240 training images make only 16 optimizer steps" in of_steps
    assert any("`epochs`" in warning for warning in warnings)


def test_a_run_folder_is_locked_while_a_process_trains_in_it(tiny_npz: Path, tmp_path: Path) -> None:
    folder = _train(tiny_npz, tmp_path / "run")
    folder.write_info(dataclasses.replace(folder.info(), status="training"))
    with folder.lock(), pytest.raises(LockedError):
        resume(folder.root)
    assert resume(folder.root).info().status == "complete"


def test_the_folder_of_a_run_killed_before_it_started_can_be_used_again(tiny_npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "recipe.yaml").write_text("name: half")
    assert _train(tiny_npz, out).info().status == "complete"


def test_a_damaged_log_line_still_counts_as_a_reading_of_the_test_split(tiny_npz: Path, tmp_path: Path) -> None:
    folder = _train(tiny_npz, tmp_path / "run", test=True)
    log = folder.file("test", "reads.jsonl")
    log.write_text(log.read_text() + '{"time": "20')
    assert len(folder.test_reads()) == 2
    nephros.evaluate(folder.root, "test")
    assert len(folder.test_reads()) == 3
    assert "unknown (damaged entry)" in folder.file("report.html").read_text()


def test_the_report_follows_a_later_evaluation_on_test(tiny_npz: Path, tmp_path: Path) -> None:
    folder = _train(tiny_npz, tmp_path / "run")
    assert "Never evaluated on the test split" in folder.file("report.html").read_text()
    nephros.evaluate(folder.root, "test")
    assert "Never evaluated on the test split" not in folder.file("report.html").read_text()


def test_public_names_are_not_replaced_by_submodules(tiny_npz: Path, tmp_path: Path) -> None:
    before = {name: getattr(nephros, name) for name in nephros.__all__}
    folder = _train(tiny_npz, tmp_path / "run")
    nephros.report(folder.root)
    assert {name: getattr(nephros, name) for name in nephros.__all__} == before
    assert callable(nephros.get_recipe)


def test_a_recipe_from_python_is_checked_and_may_hold_integers_for_floats(
    tiny_dataset: Dataset, tmp_path: Path
) -> None:
    integers = dataclasses.replace(QUICK, optimizer=OptimizerConfig(lr=1, momentum=0), epochs=1)
    folder = train(integers, tiny_dataset, out=tmp_path / "run")
    folder.write_info(dataclasses.replace(folder.info(), status="training"))
    assert resume(folder.root, tiny_dataset).info().status == "complete"
    for parameter, changes in (
        ("epochs", {"epochs": 2.5}),
        ("amp", {"amp": "x"}),
        ("optimizer.name", {"optimizer": OptimizerConfig(name="foo")}),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidArgument) as exc_info:
            train(dataclasses.replace(QUICK, **changes), tiny_dataset, out=tmp_path / "other")
        assert exc_info.value.parameter == parameter


def test_leftovers_of_a_killed_run_are_removed(tiny_npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / ".run.json.abc.tmp").write_text("{")
    folder = _train(tiny_npz, out)
    folder.file("report.html").unlink()
    (out / "figures").mkdir()
    (out / "figures" / ".roc.png.abc.tmp").write_text("half")
    resume(out)
    assert folder.file("report.html").exists()
    assert not list(out.rglob(".*.tmp"))
