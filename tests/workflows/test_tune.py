"""Studies from the command line and from Python, and the errors that users see."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from nephros import cli
from nephros.data.load import data_request
from nephros.errors import FileError, IncompatibleError, InvalidArgument, LockedError
from nephros.recipe import to_yaml
from nephros.runs import RunFolder
from nephros.tuning.checkpoint_store import CheckpointStore
from nephros.tuning.database import storage_url
from nephros.tuning.executors import InProcessExecutor
from nephros.tuning.optuna_storage import StudyStorage
from nephros.tuning.settings import plan_study
from nephros.tuning.study_folder import StudyFolder
from nephros.tuning.study_state import StudyState
from nephros.workflows.study import best_recipe
from nephros.workflows.tune import _make_executor, _RunOptions, _tuning_data, resume_study, tune
from tests.conftest import squares_dataset, write_npz
from tests.tuning.conftest import RECIPE, SPACE, reproducible_part


def usage_error(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one sentence with which a command fails."""
    with pytest.raises(SystemExit) as exc_info:
        cli.main(argv)
    stderr = capsys.readouterr().err
    assert exc_info.value.code == 2, stderr
    assert stderr.startswith("nephros: ")
    assert stderr.count("\n") == 1
    return stderr.removeprefix("nephros: ").strip()


def run_cli(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that succeeds, and return what it printed to stdout."""
    with pytest.raises(SystemExit) as exc_info:
        cli.main(argv)
    out, stderr = capsys.readouterr()
    assert exc_info.value.code == 0, stderr
    return out


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with data, a recipe and a space."""
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "squares.npz", squares_dataset(n=128))
    (tmp_path / "small.yaml").write_text(to_yaml(RECIPE))
    (tmp_path / "space.yaml").write_text(
        "optimizer.lr: {low: 0.001, high: 0.5, log: true}\nmodel.hidden: [[16], [24, 8]]\n"
    )
    return tmp_path


pytestmark = pytest.mark.usefixtures("reports_without_figures")

TUNE = ["tune", "small.yaml", "--data", "squares.npz", "--max-epochs", "2", "--eta", "2", "--workers", "1"]


def test_tune_show_resume_and_train_from_study(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run_cli([*TUNE, "--space", "space.yaml", "--subset", "64", "--name", "one"], capsys)
    assert "on the whole validation split (32 images)" in out
    assert "nephros train --from-study one" in out
    folder = workspace / "studies" / "one"
    assert (folder / "report.html").stat().st_size > 0
    show_output = run_cli(["tune", "--show", "one"], capsys)
    assert "2/2" in show_output
    assert "best: val_accuracy" in show_output
    before = reproducible_part(load_state("one"))
    (folder / "figures").mkdir()
    (folder / "figures" / ".learning-curves.png.half.tmp").write_bytes(b"of a process that was killed while writing")
    resume_output = run_cli(["tune", "--resume", "studies/one"], capsys)
    assert "best: val_accuracy" in resume_output
    assert not list(folder.rglob(".*.tmp"))
    assert reproducible_part(load_state("one")) == before
    run_cli(["train", "--from-study", "one", "--out", "run", "--epochs", "3"], capsys)
    info = json.loads((workspace / "run" / "run.json").read_text())
    best = load_state("one").best
    assert best is not None
    tuned = load_state("one").recipe(best.key)
    assert info["recipe"] == "small-tuned"
    assert sum(info["class_counts"]["train"]) == 128  # the whole train split, not the study's subset
    recipe = (workspace / "run" / "recipe.yaml").read_text()
    assert f"lr: {tuned.optimizer.lr}" in recipe
    assert "epochs: 3" in recipe
    assert "study one" in recipe


def test_the_password_of_a_study_is_not_stored_in_a_run(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nephros.workflows.study.best_recipe", lambda *_, **__: (RECIPE, data_request("squares.npz")))
    storage = "postgresql://me:my secret@host/base"
    run_cli(["train", "--from-study", "big", "--storage", storage, "--epochs", "1", "--out", "run"], capsys)
    assert "--storage postgresql+psycopg2://me@host/base" in RunFolder.open("run").info().command
    for path in Path("run").rglob("*"):
        assert path.is_dir() or b"secret" not in path.read_bytes(), path


def test_an_unfinished_study_says_that_its_best_may_not_last(
    workspace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = run_cli([*TUNE, "--max-epochs", "1", "--name", "one"], capsys)
    assert "not finished" not in out
    monkeypatch.setattr(StudyState, "finished", property(lambda _: False))
    out = run_cli(["tune", "--show", "one"], capsys)
    assert "not finished, after 1 of 1 epochs, so a better configuration may follow: nephros tune --resume one" in out
    assert "--from-study" not in out
    best_recipe("one")
    assert "The study one is not finished" in caplog.text


def load_state(name: str) -> StudyState:
    return StudyStorage(storage_url(str(StudyFolder.open(name).database)), name).load_state()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_optunas_tools_open_a_study(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_cli([*TUNE, "--space", "space.yaml", "--name", "one", "--storage", "all.db"], capsys)
    study = optuna.load_study(study_name="one", storage="sqlite:///all.db")
    states = [trial.state.name for trial in study.get_trials()]
    assert sorted(states) == ["COMPLETE", "COMPLETE", "COMPLETE", "PRUNED"]
    assert study.direction.name == "MAXIMIZE"
    for trial in study.get_trials():
        assert set(trial.params) == {"optimizer.lr", "model.hidden"}
        assert trial.last_step == (1 if trial.state.name == "PRUNED" else 2)
        assert trial.value == trial.intermediate_values[trial.last_step or 0]
    axes = optuna.visualization.matplotlib.plot_intermediate_values(study)
    assert len(axes.get_lines()) == 4


def test_the_subset_is_class_stratified_with_a_quarter_for_validation(workspace: Path) -> None:
    settings = plan_study(RECIPE, subset=64)
    subset = _tuning_data(squares_dataset(n=512), settings)
    assert (len(subset.train), len(subset.val), len(subset.test)) == (64, 16, 128)
    assert subset.train.class_counts(4).tolist() == [16] * 4
    assert subset.val.class_counts(4).tolist() == [4] * 4


@pytest.mark.slow
def test_a_dataset_from_python_is_tuned_in_this_process(workspace: Path) -> None:
    dataset = squares_dataset(n=64)
    options: dict[str, Any] = {"max_epochs": 2, "eta": 2, "space": SPACE, "name": "open"}
    result = tune(RECIPE, dataset, **options)
    assert result.finished
    with pytest.raises(InvalidArgument) as excinfo:
        resume_study("open")
    assert (excinfo.value.parameter, excinfo.value.value) == ("data", "missing")
    assert reproducible_part(resume_study("open", dataset)) == reproducible_part(result)
    with pytest.raises(InvalidArgument) as excinfo:
        tune(RECIPE, dataset, workers=2, **{**options, "name": "other"})
    assert (excinfo.value.parameter, excinfo.value.value) == ("workers", 2)


def test_a_recipe_is_also_a_path_and_data_are_no_array(workspace: Path) -> None:
    assert plan_study(Path("small.yaml")).recipe == plan_study("small.yaml").recipe
    with pytest.raises(InvalidArgument) as excinfo:
        tune(Path("small.yaml"), squares_dataset(n=64).train.images)  # type: ignore[arg-type]
    assert (excinfo.value.parameter, excinfo.value.value) == ("data", "ndarray")


def test_dry_run_prints_the_plan_and_leaves_nothing(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run_cli(["tune", "poster", "--max-epochs", "27", "--brackets", "s=3", "--dry-run"], capsys)
    assert "27 at 1, 9 at 3, 3 at 9, 1 at 27" in out
    assert "81" in out
    assert "108" in out
    assert not (workspace / "studies").exists()


@pytest.mark.parametrize(
    ("flags", "facts"),
    [
        (["--eta", "1"], ["--eta is 1", "at least 2"]),
        (["--max-epochs", "0"], ["--max-epochs is 0", "at least 1"]),
        (["--max-epochs", "2.5"], ["--max-epochs is 2.5", "a whole number"]),
        (["--brackets", "s=9"], ["--brackets is s=9", "s=1, s=0", "--max-epochs 2", "--eta 2"]),
        (["--metric", "accuracy"], ["--metric is accuracy", "val_accuracy, val_loss"]),
        (["--sampler", "grid"], ["--sampler is grid", "random, tpe"]),
        (["--threads-per-trial", "0"], ["--threads-per-trial is 0", "at least 1"]),
        (["--workers", "0"], ["--workers is 0", "at least 1"]),
        (["--max-minutes", "0"], ["--max-minutes is 0.0", "above 0"]),
        (["--subset", "9"], ["--subset", "9"]),
        (["--subset", "1000"], ["--subset", "1000", "128"]),
        (["--space", "none.yaml"], ["none.yaml", "does not exist"]),
        (["--name", "a/b"], ["--name is a/b"]),
        (["--name", ".."], ["--name is .."]),
        (["--storage", "mysql://me@host/base"], ["--storage is mysql://me@host/base", "postgresql://"]),
        (["--storage", "http:/x://"], ["--storage is http:/x://"]),
        (["--checkpoint-dir", "nowhere://x"], ["--checkpoint-dir is nowhere://x/bad"]),
        (["--resume", "none"], ["--resume", "RECIPE", "--max-epochs"]),
        (["--works", "1"], ["'--works'", "Did you mean '--workers'?"]),
    ],
)
def test_invalid_flags_get_one_sentence_and_leave_nothing(
    flags: list[str], facts: list[str], workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = usage_error([*TUNE, "--name", "bad", *flags], capsys)
    for fact in facts:
        assert fact in message
    assert not (workspace / "studies").exists()


@pytest.mark.parametrize("flags", [["tune", "--resume"], ["tune", "--show"], ["train", "--from-study"]])
def test_an_unknown_study_is_named(flags: list[str], workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'none'" in usage_error([*flags, "none"], capsys)
    with pytest.raises(FileError):
        best_recipe("none")


def test_a_new_study_needs_a_new_name(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_cli([*TUNE, "--max-epochs", "1", "--name", "one", "--storage", "all.db"], capsys)
    assert "`nephros tune --resume one`" in usage_error([*TUNE, "--name", "one"], capsys)
    (workspace / "studies").rename(workspace / "moved")
    message = usage_error([*TUNE, "--name", "one", "--storage", "all.db"], capsys)
    assert message.startswith("--name is one")
    assert "all.db" in message
    assert "leave one out" in usage_error(["train", "poster", "--from-study", "moved/one"], capsys)
    assert "--from-study" in usage_error(["train", "poster", "--storage", "study.db"], capsys)


@pytest.mark.slow
def test_a_study_whose_data_space_or_versions_changed_is_not_resumed(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_cli([*TUNE, "--space", "space.yaml", "--name", "one"], capsys)
    manifest = workspace / "studies" / "one" / "study.json"
    original = manifest.read_text()
    write_npz(workspace / "squares.npz", squares_dataset(n=132))
    with pytest.raises(IncompatibleError, match=r"squares\.npz is not the data of studies/one"):
        resume_study("one")
    changed = json.loads(original)
    changed["settings"]["versions"]["torch"] = "1.0"
    manifest.write_text(json.dumps(changed))
    with pytest.raises(IncompatibleError, match=r"torch 1\.0"):
        resume_study("one")
    write_npz(workspace / "squares.npz", squares_dataset(n=128))
    changed = json.loads(original)
    changed["settings"]["space"]["optimizer.lr"]["high"] = 0.4
    manifest.write_text(json.dumps(changed))
    with pytest.raises(IncompatibleError, match=r"study\.db"):
        resume_study("one")
    for damaged in ("{", original.replace("nephros-study-2", "nephros-study-1")):
        manifest.write_text(damaged)
        with pytest.raises(FileError) as excinfo:
            resume_study("one")
        assert excinfo.value.path == Path("studies/one/study.json")
    manifest.write_text(original)
    run_cli(["tune", "--resume", "one"], capsys)


def test_a_study_that_is_running_is_locked(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_cli([*TUNE, "--max-epochs", "1", "--name", "one"], capsys)
    with StudyFolder.open("one").lock(), pytest.raises(LockedError, match="studies/one"):
        resume_study("one")


def test_when_all_configurations_fail_the_first_reason_is_shown(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "space.yaml").write_text("optimizer.lr: [1.0e30, 1.0e31]\n")
    with pytest.raises(SystemExit):
        cli.main([*TUNE, "--space", "space.yaml", "--name", "lost"])
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("nephros: Every configuration failed")
    assert "loss became" in message


@pytest.mark.parametrize(("gpus", "workers", "expected"), [(4, None, 4), (1, None, 1), (4, 2, 2), (4, 1, 1)])
def test_each_gpu_has_a_worker_process(
    gpus: int, workers: int | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nephros.workflows.tune.resolve_device", torch.device)
    monkeypatch.setattr("nephros.workflows.tune.ProcessExecutor", lambda size, _: size)
    monkeypatch.setattr("nephros.workflows.tune.available_memory", lambda: 64e9)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    settings = dataclasses.replace(plan_study(RECIPE, device="cpu"), device_type="cuda")
    dataset, store, options = squares_dataset(n=64), CheckpointStore(str(tmp_path)), _RunOptions(workers, None, None)
    n_processes: Any = _make_executor(settings, dataset, store, options, data_request("squares.npz"))
    assert n_processes == expected
    if expected == 1:  # data given in Python stays in this process
        assert isinstance(_make_executor(settings, dataset, store, options, data_request("")), InProcessExecutor)


def test_more_workers_than_cores_get_a_warning(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = str((os.cpu_count() or 1) + 1)
    with pytest.raises(SystemExit):
        cli.main([*TUNE, "--max-epochs", "1", "--threads-per-trial", threads, "--name", "wide"])
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert any(f"1 workers with {threads} threads" in line for line in warnings)
