"""What a user does with studies, and what they are told when that can't be done."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import optuna
import pytest

from nephros import cli
from nephros.errors import NephrosError
from nephros.recipe import to_yaml
from nephros.tuning.optuna_storage import StudyStorage, storage_url
from nephros.tuning.plan import plan_study
from nephros.tuning.study_folder import StudyFolder
from nephros.tuning.study_state import StudyState
from nephros.workflows import tune as job
from tests.conftest import squares_dataset, write_npz
from tests.tuning.conftest import RECIPE, SPACE, reproducible_part


def usage_error(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one sentence with which a command is refused."""
    with pytest.raises(SystemExit) as exc_info:
        cli.main(argv)
    stderr = capsys.readouterr().err
    assert exc_info.value.code == 2, stderr
    assert stderr.startswith("nephros: ")
    assert stderr.count("\n") == 1
    return stderr.removeprefix("nephros: ").strip()


def run_cli(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that goes well and return what it printed."""
    with pytest.raises(SystemExit) as exc_info:
        cli.main(argv)
    out, stderr = capsys.readouterr()
    assert exc_info.value.code == 0, stderr
    return out


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to stand in, with data, a recipe and a space."""
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "squares.npz", squares_dataset(n=128))
    (tmp_path / "small.yaml").write_text(to_yaml(RECIPE))
    (tmp_path / "space.yaml").write_text(
        "optimizer.lr: {low: 0.001, high: 0.5, log: true}\nmodel.hidden: [[16], [24, 8]]\n"
    )
    return tmp_path


TUNE = ["tune", "small.yaml", "--data", "squares.npz", "--max-epochs", "2", "--eta", "2", "--workers", "1"]


def test_tune_show_resume_and_train_from_study(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run_cli([*TUNE, "--space", "space.yaml", "--subset", "64", "--name", "one"], capsys)
    assert "2 at 1, 1 at 2" in out
    assert "on all of validation (32 images)" in out
    assert "nephros train --from-study one" in out
    folder = workspace / "studies" / "one"
    assert (folder / "report.html").stat().st_size > 0
    show_output = run_cli(["tune", "--show", "one"], capsys)
    assert "2/2" in show_output
    assert "best: val_accuracy" in show_output
    before = reproducible_part(records("one"))
    (folder / "figures" / ".learning-curves.png.half.tmp").write_bytes(b"of a process that was killed as it wrote")
    resume_output = run_cli(["tune", "--resume", "studies/one"], capsys)
    assert "best: val_accuracy" in resume_output
    assert not list(folder.rglob(".*.tmp"))
    assert reproducible_part(records("one")) == before
    run_cli(["train", "--from-study", "one", "--out", "run", "--epochs", "3"], capsys)
    info = json.loads((workspace / "run" / "run.json").read_text())
    best = records("one").best
    assert best is not None
    tuned = records("one").recipe(best.key)
    assert info["recipe"] == "small-tuned"
    assert sum(info["class_counts"]["train"]) == 128  # the whole train split, not the study's subset
    recipe = (workspace / "run" / "recipe.yaml").read_text()
    assert f"lr: {tuned.optimizer.lr}" in recipe
    assert "epochs: 3" in recipe
    assert "study one" in recipe


def records(name: str) -> StudyState:
    return StudyStorage(storage_url(str(StudyFolder.open(name).database)), name).load_state()


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_optunas_own_tools_open_a_study(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_the_subset_and_its_quarter_are_class_stratified(workspace: Path) -> None:
    settings = dataclasses.replace(plan_study(RECIPE, subset=64), data={})
    subset = job._tuning_data(squares_dataset(n=512), settings)
    assert (len(subset.train), len(subset.val), len(subset.test)) == (64, 16, 128)
    assert subset.train.class_counts(4).tolist() == [16] * 4
    assert subset.val.class_counts(4).tolist() == [4] * 4


def test_a_dataset_from_python_is_tuned_in_this_process(workspace: Path) -> None:
    dataset = squares_dataset(n=64)
    options: dict[str, Any] = {"max_epochs": 2, "eta": 2, "space": SPACE, "name": "open", "say": lambda text: None}
    result = job.tune(RECIPE, dataset, **options)
    assert result.finished
    with pytest.raises(NephrosError, match="give it to nephros"):
        job.resume_study("open")
    assert reproducible_part(job.resume_study("open", dataset, say=lambda text: None)) == reproducible_part(result)
    with pytest.raises(NephrosError, match="--workers above 1"):
        job.tune(RECIPE, dataset, workers=2, **{**options, "name": "other"})


def test_dry_run_prints_the_plan_and_leaves_nothing(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run_cli(["tune", "poster", "--max-epochs", "27", "--brackets", "s=3", "--dry-run"], capsys)
    assert "27 at 1, 9 at 3, 3 at 9, 1 at 27" in out
    assert "81" in out
    assert "108" in out
    assert not (workspace / "studies").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--eta", "1"], "--eta is 1, but it must be a whole number of at least 2."),
        (["--max-epochs", "0"], "--max-epochs is 0, but it must be a whole number of at least 1."),
        (["--max-epochs", "2.5"], "--max_epochs is 2.5, but it must be a whole number."),
        (
            ["--brackets", "s=9"],
            "--brackets is s=9, but with --max-epochs 2 and --eta 2 it must be all or one of s=1, s=0.",
        ),
        (
            ["--metric", "accuracy"],
            "--metric is accuracy, but it must be one of 'val_accuracy', ",
        ),
        (["--sampler", "grid"], "--sampler is grid, but it must be one of random, tpe."),
        (["--threads", "0"], "--threads is 0, but it must be a whole number of at least 1."),
        (["--workers", "0"], "--workers is 0, but it must be a whole number of at least 1."),
        (["--max-minutes", "0"], "--max-minutes is 0.0, but it must be a number of minutes above 0."),
        (["--subset", "9"], "--subset 9 is too small"),
        (["--subset", "1000"], "--subset 1000 is more than the 128 training images"),
        (["--space", "none.yaml"], "The space none.yaml can't be read (No such file or directory)"),
        (["--name", "a/b"], "--name is 'a/b', but it must be a plain word"),
        (["--name", ".."], "--name is '..', but it must be a plain word"),
        (["--storage", "mysql://me@host/base"], "name an SQLite file or postgresql://"),
        (["--storage", "http:/x://"], "is not a URL"),
        (["--checkpoints", "nowhere://x"], "--checkpoints nowhere://x/bad can't be used"),
        (["--resume", "none"], "--resume takes the study as it was made"),
        (["--works", "1"], "'--works' is not understood. Did you mean '--workers'?"),
    ],
)
def test_bad_flags_get_one_sentence_and_leave_nothing(
    words: list[str], sentence: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in usage_error([*TUNE, "--name", "bad", *words], capsys)
    assert not (workspace / "studies").exists()


def test_studies_that_are_not_there_or_there_already(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("--resume", "--show"):
        assert "There is no study 'none'" in usage_error(["tune", verb, "none"], capsys)
    assert "There is no study 'none'" in usage_error(["train", "--from-study", "none"], capsys)
    run_cli([*TUNE, "--space", "space.yaml", "--name", "one", "--storage", "all.db"], capsys)
    assert "nephros tune --resume one" in usage_error([*TUNE, "--name", "one"], capsys)
    (workspace / "studies").rename(workspace / "moved")
    assert "There is a study one in" in usage_error([*TUNE, "--name", "one", "--storage", "all.db"], capsys)
    assert "leave one out" in usage_error(["train", "poster", "--from-study", "moved/one"], capsys)


def test_a_study_of_other_data_space_or_version_is_not_gone_on_with(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_cli([*TUNE, "--space", "space.yaml", "--name", "one"], capsys)
    manifest = workspace / "studies" / "one" / "study.json"
    original = manifest.read_text()
    write_npz(workspace / "squares.npz", squares_dataset(n=132))
    assert "its data (" in usage_error(["tune", "--resume", "one"], capsys)
    changed = json.loads(original)
    changed["settings"]["versions"]["torch"] = "1.0"
    manifest.write_text(json.dumps(changed))
    assert "was made with torch 1.0" in usage_error(["tune", "--resume", "one"], capsys)
    write_npz(workspace / "squares.npz", squares_dataset(n=128))
    changed = json.loads(original)
    changed["settings"]["space"]["optimizer.lr"]["high"] = 0.4
    manifest.write_text(json.dumps(changed))
    assert "was made with other settings" in usage_error(["tune", "--resume", "one"], capsys)
    manifest.write_text("{")
    assert "is damaged" in usage_error(["tune", "--resume", "one"], capsys)
    manifest.write_text(original)
    run_cli(["tune", "--resume", "one"], capsys)


def test_where_everything_fails_the_first_reason_is_told(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "space.yaml").write_text("optimizer.lr: [1.0e30, 1.0e31]\n")
    with pytest.raises(SystemExit):
        cli.main([*TUNE, "--space", "space.yaml", "--name", "lost"])
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert sentence.startswith("nephros: Every configuration failed; the first said: The training loss became")


def test_more_workers_than_cores_are_warned_of(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = str((os.cpu_count() or 1) + 1)
    with pytest.raises(SystemExit):
        cli.main([*TUNE, "--threads", threads, "--name", "wide", "--space", "space.yaml"])
    assert "are more than this machine's" in capsys.readouterr().out
