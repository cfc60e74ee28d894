"""Reproducing a plan: missing runs are trained, interrupted ones continue, and tables list the finished ones."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import pytest

import nephros
from nephros.cli import main
from nephros.errors import IncompatibleError, UnknownName
from nephros.evaluation.scoring import Evaluation
from nephros.experiments.plans import PlanRow, baselines_plan, labels_plan
from nephros.experiments.results import load_seed_results
from nephros.presets import RECIPES
from nephros.recipe import Recipe
from nephros.runs import RunFolder
from nephros.workflows import reproduce as reproduce_workflow
from nephros.workflows.reproduce import planned_runs
from tests.conftest import squares_dataset, write_npz

pytestmark = pytest.mark.usefixtures("reports_without_figures")

COLUMNS = (
    "recipe,published_accuracy,accuracy_mean,accuracy_sd,published_loss,implied_loss,loss,macro_f1,auc,seeds,epochs,minutes,"
    "command"
)


def _records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the log records of the workflow itself."""
    return [record for record in caplog.records if record.name == "nephros.workflows.reproduce"]


def _rows(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    return write_npz(tmp_path / "cells.npz", squares_dataset(n=160, classes=8))


@pytest.mark.slow
def test_baselines_are_trained_once_and_listed_with_published_results(npz: Path, tmp_path: Path) -> None:
    def run_plan() -> list[Path]:
        only, runs, out = ["course-3", "course-6"], tmp_path / "runs", tmp_path / "results"
        return nephros.reproduce("baselines", str(npz), only=only, runs=runs, out=out, epochs=1)

    files = run_plan()
    assert files[0].read_text().splitlines()[0] == COLUMNS
    rows = {row["recipe"]: row for row in _rows(files[0])}
    assert len(rows) == 15
    row = rows["course-3"]
    assert (row["published_accuracy"], row["published_loss"], row["implied_loss"]) == ("0.5430", "0.002780", "1.24")
    assert (row["seeds"], row["epochs"]) == ("3", "1")
    runs = [RunFolder.open(tmp_path / "runs" / "baselines" / f"course-3-{seed}") for seed in range(3)]
    scores = [json.loads(run.file("test", "metrics.json").read_text())["accuracy"] for run in runs]
    assert float(row["accuracy_mean"]) == pytest.approx(sum(scores) / 3, abs=1e-4)
    assert rows["course-6"]["accuracy_sd"] == ""
    assert rows["course-1"]["accuracy_mean"] == "not run"
    assert rows["strong-baseline"]["accuracy_mean"] == "not run: needs a GPU"
    assert "| course-3 | " in files[1].read_text()
    run_plan()
    assert all(len(run.test_reads()) == 1 for run in runs)
    assert f"--data {npz.name}" in row["command"]
    assert row["command"].endswith("--epochs 1")
    assert runs[0].info().command == f"nephros train course-3 --epochs 1 --seed 0 --test --data {npz}"
    # Neither shortened runs nor runs on other data count as the plan's.
    full_results = load_seed_results(
        dataclasses.replace(baselines_plan("cpu")[2]), tmp_path / "runs" / "baselines", str(npz)
    )
    assert full_results.seeds == []
    other = write_npz(tmp_path / "other.npz", squares_dataset(n=80, classes=8))
    with pytest.raises(IncompatibleError):
        nephros.reproduce("baselines", str(other), only=["course-3"], runs=tmp_path / "runs", epochs=1)


@pytest.mark.slow
def test_a_run_that_another_process_begins_meanwhile_is_left_to_it(
    npz: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "nephros.workflows.reproduce")

    def train_second(recipe: Recipe, data: object, *, out: Path, **options: Any) -> object:
        if recipe.seed == 1:
            nephros.train(dataclasses.replace(recipe, epochs=1), npz, out=out)
        return nephros.train(recipe, npz, out=out, **options)

    monkeypatch.setattr(reproduce_workflow, "train", train_second)
    nephros.reproduce("baselines", str(npz), only=["course-4"], runs=tmp_path / "runs", out=tmp_path / "out", epochs=1)
    assert "course-4, seed 1: left to the process that began it meanwhile" in caplog.messages


def test_an_interrupted_run_continues(npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: object, **_more: object) -> None:
        raise KeyboardInterrupt

    kwargs = {"only": ["course-4"], "epochs": 1, "runs": tmp_path / "runs", "out": tmp_path / "out"}
    with monkeypatch.context() as patch:
        patch.setattr("nephros.workflows.training_run.score_split", interrupt)
        with pytest.raises(KeyboardInterrupt):
            nephros.reproduce("baselines", str(npz), **kwargs)  # type: ignore[arg-type]
    files = nephros.reproduce("baselines", str(npz), **kwargs)  # type: ignore[arg-type]
    assert {row["recipe"]: row["seeds"] for row in _rows(files[0])}["course-4"] == "3"
    with pytest.raises(IncompatibleError):
        nephros.reproduce("baselines", str(npz), **(kwargs | {"epochs": 2}))  # type: ignore[arg-type]


def test_a_run_that_diverges_does_not_stop_the_others(
    npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "nephros.workflows.reproduce")
    unstable = dataclasses.replace(
        RECIPES["course-3"], epochs=1, optimizer=dataclasses.replace(RECIPES["course-3"].optimizer, lr=1e30)
    )
    rows = [
        PlanRow("unstable", "unstable", unstable, (0,)),
        PlanRow("stable", "stable", dataclasses.replace(RECIPES["course-3"], epochs=1), (0,)),
    ]
    monkeypatch.setattr(reproduce_workflow, "baselines_plan", lambda _device: rows)
    files = nephros.reproduce("baselines", str(npz), runs=tmp_path / "runs", out=tmp_path / "out")
    (warning,) = (record for record in _records(caplog) if record.levelname == "WARNING")
    assert warning.getMessage().startswith("unstable, seed 0: ")
    assert [row["seeds"] for row in _rows(files[0])] == ["0 (1 diverged)", "1"]
    assert _rows(files[0])[0]["accuracy_mean"] == "diverged"
    caplog.clear()
    nephros.reproduce("baselines", str(npz), runs=tmp_path / "runs", out=tmp_path / "out")
    assert _records(caplog) == []


@pytest.mark.slow
def test_a_run_that_another_process_is_training_is_left_to_it(
    npz: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "nephros.workflows.reproduce")
    runs, out = tmp_path / "runs", tmp_path / "out"
    recipe = dataclasses.replace(RECIPES["course-4"], epochs=1, seed=1)
    run = nephros.train(recipe, npz, out=runs / "baselines" / "course-4-1", test=True)
    run.write_info(dataclasses.replace(run.info(), status="training"))
    with run.lock():
        files = nephros.reproduce("baselines", str(npz), only=["course-4"], runs=runs, out=out, epochs=1)
    assert "course-4, seed 1: left to the process that is training it" in caplog.messages
    assert {row["recipe"]: row["seeds"] for row in _rows(files[0])}["course-4"] == "2"


@pytest.mark.slow
def test_the_nephros_plan_trains_teachers_first_and_lists_their_ensemble(
    npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "nephros.workflows.reproduce")
    course = RECIPES["course-3"]
    student = dataclasses.replace(course, name="student", distillation_weight=0.5)
    rows = [
        PlanRow("course-3", "course-3", course, (0, 1)),
        PlanRow("student", "student", student, (0,), teachers=("course-3-0", "course-3-1")),
    ]
    monkeypatch.setattr(reproduce_workflow, "nephros_plan", lambda: rows)
    monkeypatch.setitem(RECIPES, "student", student)

    def run_plan(*only: str) -> dict[str, dict[str, str]]:
        runs, out = tmp_path / "runs", tmp_path / "out"
        files = nephros.reproduce("nephros", str(npz), only=only, epochs=1, runs=runs, out=out)
        return {row["recipe"]: row for row in _rows(files[0])}

    assert run_plan("student")["student"]["accuracy_mean"] == "not run"
    (message,) = caplog.messages
    for text in ("student: skipped", "not finished: course-3-0, course-3-1", "course-3,student"):
        assert text in message
    rows_by_recipe = run_plan()
    runs = [RunFolder.open(tmp_path / "runs" / "nephros" / name) for name in ("course-3-0", "course-3-1", "student-0")]
    assert [teacher_record["run"] for teacher_record in runs[2].info().teachers] == [str(run.root) for run in runs[:2]]
    assert f"--teachers {runs[0].root},{runs[1].root}" in runs[2].info().command
    evaluations = [
        Evaluation.load(run.file("test", "metrics.json"), run.file("test", "predictions.npz")) for run in runs
    ]
    mean = (evaluations[0].probabilities + evaluations[1].probabilities) / 2
    ensemble_row = rows_by_recipe["ensemble of 2 course-3"]
    assert float(ensemble_row["accuracy_mean"]) == pytest.approx(
        (mean.argmax(1) == evaluations[0].labels).mean(), abs=1e-4
    )
    assert float(rows_by_recipe["student"]["accuracy_mean"]) == pytest.approx(evaluations[2].accuracy, abs=1e-4)
    assert int(ensemble_row["parameters"]) == 2 * int(rows_by_recipe["course-3"]["parameters"])
    assert rows_by_recipe["student"]["distilled_from"] == "course-3-0 course-3-1"
    assert (
        rows_by_recipe["student"]["command"]
        == f"nephros reproduce nephros --only course-3,student --data {npz.name} --epochs 1"
    )
    for run in runs[:2]:
        run.write_info(dataclasses.replace(run.info(), training_minutes=1.5))
    rows_by_recipe = run_plan("course-3")
    assert [rows_by_recipe[name]["minutes"] for name in ("course-3", "ensemble of 2 course-3")] == ["1.5", "3.0"]
    info = runs[2].info()
    runs[2].write_info(dataclasses.replace(info, teachers=info.teachers[:1]))
    with pytest.raises(IncompatibleError):
        run_plan("student")
    runs[2].write_info(info)
    runs[0].write_info(dataclasses.replace(runs[0].info(), status="diverged"))
    (runs[2].root / "run.json").unlink()
    assert run_plan("student")["student"]["accuracy_mean"] == "not run"
    assert caplog.messages[-1].endswith("diverged: course-3-0")


@pytest.mark.slow
def test_tables_of_shortened_runs_are_written_beside_the_runs(
    npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = nephros.reproduce("baselines", str(npz), only=["course-3"], epochs=1)
    assert files == [Path("runs/baselines/baselines.csv"), Path("runs/baselines/baselines.md")]
    assert not Path("results").exists()


@pytest.mark.slow
def test_the_labels_plan_takes_the_same_steps_on_fewer_images(npz: Path, tmp_path: Path) -> None:
    plan = labels_plan(165_380)
    for row in plan:
        assert isinstance(row.recipe, Recipe)
        images = row.data_options.get("subset", 165_380) * row.recipe.passes_per_epoch * row.recipe.epochs
        full_epochs = 5 if row.recipe.name == "course-1" else 3
        assert images == pytest.approx(full_epochs * 165_380, rel=0.021)
        assert row.recipe.epochs <= 4 * full_epochs
    only = ["course-1-0.3", "course-1-1"]
    kwargs = {"runs": tmp_path / "runs", "out": tmp_path / "out", "epochs": 1}
    files = nephros.reproduce("labels", str(npz), only=only, **kwargs)  # type: ignore[arg-type]
    rows = {row["images"]: row for row in _rows(files[0]) if row["seeds"] != "0"}
    assert set(rows) == {"48", "160"}
    assert (tmp_path / "out" / "labels.png").stat().st_size > 0


def test_dry_run_lists_the_plan_without_training(npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["reproduce", "baselines", "--data", str(npz), "--dry-run", "--runs", str(tmp_path / "runs")])
    stdout = capsys.readouterr().out
    assert "nephros train poster --epochs 40 --seed 0 --test --data" in stdout
    assert "nephros train poster --epochs 40 --resplit 120000,30000 --data-seed 0 --seed 0 --test" in stdout
    assert "needs more images" in stdout
    assert "needs a GPU" in stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("plan", "only", "parameter"), [("baselines", ["curse-1"], "only"), ("base", [], "plan")])
def test_unknown_plans_and_rows_are_refused(npz: Path, plan: str, only: list[str], parameter: str) -> None:
    with pytest.raises(UnknownName) as exc_info:
        nephros.reproduce(plan, str(npz), only=only)
    assert exc_info.value.parameter == parameter
    assert exc_info.value.options


def test_rows_that_can_t_be_trained_here_are_skipped_with_a_reason(
    npz: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "nephros.workflows.reproduce")
    only = ["poster-resplit", "poster-subset", "strong-baseline"]
    runs, out = tmp_path / "runs", tmp_path / "out"
    nephros.reproduce("baselines", str(npz), only=only, device="cpu", runs=runs, out=out)
    assert len(caplog.messages) == 3
    assert "needs more images" in caplog.messages[0]
    assert "needs a GPU" in caplog.messages[2]
    states = [run.state for run in planned_runs("baselines", str(npz), only=only, runs=runs, device="cpu")]
    assert len(states) == 5
    assert "pending" not in states


def test_on_a_gpu_everything_is_trained_in_full() -> None:
    cpu, gpu = ({row.key: row for row in baselines_plan(kind)} for kind in ("cpu", "cuda"))
    assert set(cpu) == set(gpu)
    assert gpu["nephnet2d"].recipe == RECIPES["nephnet2d"]
    assert cpu["nephnet2d"].recipe.epochs < 10
    assert {key for key, row in cpu.items() if row.needs_gpu} == {
        "medmnist-resnet18",
        "medmnist-resnet50",
        "strong-baseline",
    }
