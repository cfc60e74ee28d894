"""Studies whose folder or database was damaged, edited or belongs to something else: one sentence, and no wrong result."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from markupsafe import Markup

from nephros.errors import FileError, IncompatibleError
from nephros.recipe import to_yaml
from nephros.training import checkpoint
from nephros.tuning import database
from nephros.tuning.hyperband import Bracket, RungState
from nephros.tuning.optuna_storage import StudyStorage
from nephros.tuning.study_state import StudyState
from nephros.workflows.tune import resume_study, tune
from tests.command_line import Capture, run_cli
from tests.conftest import squares_dataset, write_npz
from tests.tuning.conftest import RECIPE, SPACE, RecordingCallback, SmallStudy, reproducible_part

Edit = Callable[[Any], Any]
DEEP = "[" * 100_000


@pytest.fixture(scope="module", autouse=True)
def _study_reports_without_figures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nephros.reporting.study.page.save_figure", lambda *_args: Markup())
        yield


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a finished study ``one``, made once; tests work on copies."""
    folder = tmp_path_factory.mktemp("studies")
    write_npz(folder / "squares.npz", squares_dataset(n=96))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tune(RECIPE, folder / "squares.npz", name="one", max_epochs=2, eta=2, space=SPACE, workers=1, device="cpu")
    with closing(sqlite3.connect(folder / "studies" / "one" / "study.db")) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    return folder


@pytest.fixture
def study(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the study's folder, with the working folder above it."""
    monkeypatch.chdir(shutil.copytree(workspace, tmp_path / "work"))
    return tmp_path / "work" / "studies" / "one"


SHOW, RESUME, TRAIN = ["tune", "--show", "one"], ["tune", "--resume", "one"], ["train", "--from-study", "one"]


def assert_refused(capsys: Capture, *commands: list[str], part: str = "one") -> None:
    for command in commands:
        status, out, err = run_cli(command, capsys)
        assert (status, out) == (2, ""), err
        sentence = err.strip().splitlines()[-1]
        assert sentence.startswith("nephros: ")
        assert part in sentence
        assert "Traceback" not in err
        assert "internal error" not in err


def test_the_study_itself_is_shown_and_resumed(study: Path, capsys: Capture) -> None:
    for command in (SHOW, RESUME):
        assert run_cli(command, capsys)[0] == 0


MANIFEST_CONTENTS: dict[str, bytes] = {
    "nothing": b"",
    "a list": b"[]",
    "null": b"null",
    "cut short": b'{"format": "nephros-study-2", "storage": ',
    "100,000 brackets": DEEP.encode(),
    "5,000 digits": b"9" * 5000,
    "Latin-1": '"größe"'.encode("latin-1"),
    "zeros": bytes(100),
    "SQLite": b"SQLite format 3\x00" + bytes(100),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("content", MANIFEST_CONTENTS.values(), ids=MANIFEST_CONTENTS)
def test_a_study_json_of_something_else_is_named(content: bytes, study: Path, capsys: Capture) -> None:
    (study / "study.json").write_bytes(content)
    assert_refused(capsys, SHOW, RESUME, TRAIN, part="study.json")


MANIFEST_EDITS: dict[str, Edit] = {
    "another format": lambda values: values.update(format="nephros-study-9"),
    "no settings": lambda values: values.pop("settings"),
    "settings of a list": lambda values: values.update(settings=[]),
    "a storage of a number": lambda values: values.update(storage=5),
    "a storage of nothing": lambda values: values.update(storage=None),
    "an unknown key": lambda values: values.update(more=1),
    "an unknown setting": lambda values: values["settings"].update(more=1),
    "no metric": lambda values: values["settings"].pop("metric"),
    "an unknown metric": lambda values: values["settings"].update(metric="val_loudness"),
    "an unknown sampler": lambda values: values["settings"].update(sampler="grid"),
    "epochs of text": lambda values: values["settings"].update(max_epochs="2"),
    "no epochs": lambda values: values["settings"].update(max_epochs=0),
    "epochs of a fraction": lambda values: values["settings"].update(max_epochs=1.5),
    "epochs of 30 digits": lambda values: values["settings"].update(max_epochs=10**30),
    "an eta of 1": lambda values: values["settings"].update(eta=1),
    "an eta of text": lambda values: values["settings"].update(eta="2"),
    "unknown brackets": lambda values: values["settings"].update(brackets="s=99"),
    "brackets of a number": lambda values: values["settings"].update(brackets=1),
    "a seed below 0": lambda values: values["settings"].update(seed=-1),
    "no threads": lambda values: values["settings"].update(threads_per_trial=0),
    "a subset of text": lambda values: values["settings"].update(subset="64"),
    "a recipe of text": lambda values: values["settings"].update(recipe="small"),
    "a recipe of unknown fields": lambda values: values["settings"]["recipe"].update(tint=1),
    "a recipe of NaN": lambda values: values["settings"]["recipe"]["optimizer"].update(lr=float("nan")),
    "a space of text": lambda values: values["settings"].update(space="large"),
    "an empty space": lambda values: values["settings"].update(space={}),
    "a space of unknown fields": lambda values: values["settings"]["space"].update({"tint": [1, 2]}),
    "an empty range": lambda values: values["settings"]["space"].update({"optimizer.lr": {"low": 1, "high": 0.1}}),
    "data of text": lambda values: values["settings"].update(data="squares"),
    "data without a digest": lambda values: values["settings"]["data"].pop("sha256"),
    "a source of a number": lambda values: values["settings"]["data_request"].update(source=1),
    "no source": lambda values: values["settings"]["data_request"].pop("source"),
    "versions of text": lambda values: values["settings"].update(versions="2.13"),
    "a name of a number": lambda values: values["settings"].update(name=1),
    "another study's name": lambda values: values["settings"].update(name="other"),
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("edit", MANIFEST_EDITS.values(), ids=MANIFEST_EDITS)
def test_an_edited_study_json_is_refused(edit: Edit, study: Path, capsys: Capture) -> None:
    values = json.loads((study / "study.json").read_text())
    edit(values)
    (study / "study.json").write_text(json.dumps(values))
    assert_refused(capsys, SHOW, RESUME)


def test_settings_that_the_database_does_not_have_are_refused(study: Path, capsys: Capture) -> None:
    values = json.loads((study / "study.json").read_text())
    values["settings"]["seed"] = 7
    (study / "study.json").write_text(json.dumps(values))
    assert_refused(capsys, RESUME)
    with pytest.raises(IncompatibleError):
        resume_study("one")


def write_other_database(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table patients (name text)")
        connection.execute("insert into patients values ('A')")
        connection.commit()


def damage_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : len(content) // 2] = b"\xa5" * (len(content) // 2 - 4096)
    path.write_bytes(content)


def set_optuna_schema(path: Path) -> None:
    execute(path, "update alembic_version set version_num = 'v0.9.0.a'")


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


DATABASES: dict[str, Callable[[Path], Any]] = {
    "text": lambda path: path.write_text("database"),
    "a PNG": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(5000)),
    "a header alone": lambda path: path.write_bytes(b"SQLite format 3\x00"),
    "a header and zeros": lambda path: path.write_bytes(b"SQLite format 3\x00" + bytes(8192)),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 3]),
    "cut within a page": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "damaged pages": damage_pages,
    "another program's": write_other_database,
    "an older schema": set_optuna_schema,
    "no trials": lambda path: execute(path, "drop table trials"),
    "no values": lambda path: execute(path, "drop table trial_intermediate_values"),
    "no version": lambda path: execute(path, "drop table version_info"),
    "no column": lambda path: execute(path, "alter table trials rename column state to status"),
}


@pytest.mark.slow
@pytest.mark.sampled(4)
@pytest.mark.parametrize("write", DATABASES.values(), ids=DATABASES)
def test_a_database_of_something_else_is_refused_and_left_alone(
    write: Callable[[Path], Any], study: Path, capsys: Capture
) -> None:
    path = study / "study.db"
    write(path)
    content = path.read_bytes()
    assert_refused(capsys, SHOW, RESUME, TRAIN, part="study.db")
    assert path.read_bytes()[:100] == content[:100]
    assert_refused(capsys, ["tune", "poster", "--data", "squares.npz", "--storage", str(path)], part="study.db")


def test_what_is_no_file_is_named(study: Path, capsys: Capture) -> None:
    path = study / "study.db"
    path.unlink()
    path.mkdir()
    assert_refused(capsys, SHOW, part="study.db")
    path.rmdir()
    os.mkfifo(path)
    assert_refused(capsys, SHOW, part="study.db")


def test_a_locked_database_is_named_after_a_while(
    study: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(study / "study.db", isolation_level=None)) as connection:
        connection.execute("pragma journal_mode=delete")
        connection.execute("begin exclusive")
        assert_refused(capsys, SHOW, RESUME, part="study.db")


JUNK = "'" + "x" * 30 + "'"
VALUES = {
    "settings of text": ("study_user_attributes", "value_json", "'\"text\"'", "key = 'nephros:settings'"),
    "settings of broken JSON": ("study_user_attributes", "value_json", "'{'", "key = 'nephros:settings'"),
    "settings of a list": ("study_user_attributes", "value_json", "'[1]'", "key = 'nephros:settings'"),
    "metrics of text": ("study_user_attributes", "value_json", "'\"hello\"'", "key = 'nephros:best_metrics'"),
    "metrics of a number": ("study_user_attributes", "value_json", "'5'", "key = 'nephros:best_metrics'"),
    "metrics of a mapping": ("study_user_attributes", "value_json", "'\"{}\"'", "key = 'nephros:best_metrics'"),
    "an unknown distribution": (
        "trial_params", "distribution_json", "'{\"name\": \"Cauchy\", \"attributes\": {}}'", "param_name = 'optimizer.lr'",
    ),
    "a distribution of broken JSON": ("trial_params", "distribution_json", "'{'", "param_name = 'optimizer.lr'"),
    "a distribution of nothing": ("trial_params", "distribution_json", "null", "param_name = 'optimizer.lr'"),
    "a distribution of a number": ("trial_params", "distribution_json", "'7'", "param_name = 'optimizer.lr'"),
    "a learning rate of 5": ("trial_params", "param_value", "5.0", "param_name = 'optimizer.lr'"),
    "a learning rate of text": ("trial_params", "param_value", JUNK, "param_name = 'optimizer.lr'"),
    "a learning rate of infinity": ("trial_params", "param_value", "9e999", "param_name = 'optimizer.lr'"),
    "a choice that is none": ("trial_params", "param_value", "17", "param_name = 'optimizer.name'"),
    "a field of another name": ("trial_params", "param_name", "'optimizer.rate'", "param_name = 'optimizer.lr'"),
    "an unknown state": ("trials", "state", "'LOST'", "1"),
    "a trial without a number": ("trials", "number", "null", "number = 0"),
    "a bracket of text": ("trial_user_attributes", "value_json", "'\"s\"'", "key = 'bracket'"),
    "a bracket that is none": ("trial_user_attributes", "value_json", "'99'", "key = 'bracket'"),
    "an index that is none": ("trial_user_attributes", "value_json", "'77'", "key = 'index' and trial_id = 1"),
    "an index below 0": ("trial_user_attributes", "value_json", "'-1'", "key = 'index' and trial_id = 1"),
    "seconds of text": ("trial_user_attributes", "value_json", "'\"long\"'", "key = 'seconds'"),
    "seconds of NaN": ("trial_user_attributes", "value_json", "'NaN'", "key = 'seconds'"),
    "an attribute of broken JSON": ("trial_user_attributes", "value_json", "'{'", "key = 'seconds'"),
    "an accuracy of 7": ("trial_intermediate_values", "intermediate_value", "7", "step = 1"),
    "an accuracy below 0": ("trial_intermediate_values", "intermediate_value", "-1", "step = 1"),
    "an accuracy of infinity": (
        "trial_intermediate_values", "intermediate_value_type", "'INF_POS'", "step = 1",
    ),
    "a value of an unknown type": ("trial_intermediate_values", "intermediate_value_type", "'BIG'", "step = 1"),
    "an accuracy of text": ("trial_intermediate_values", "intermediate_value", JUNK, "step = 1"),
    "an epoch of 0": ("trial_intermediate_values", "step", "0", "step = 1"),
    "an epoch of 50": ("trial_intermediate_values", "step", "50", "step = 2"),
    "a direction of text": ("study_directions", "direction", "'UP'", "1"),
}  # fmt: skip
"""Table, column, new value and condition."""


@pytest.mark.sampled(8)
@pytest.mark.parametrize(("table", "column", "value", "where"), VALUES.values(), ids=VALUES)
def test_an_edited_database_is_refused(
    table: str, column: str, value: str, where: str, study: Path, capsys: Capture
) -> None:
    path = study / "study.db"
    if table == "trials" and value == "null":
        execute(path, "pragma writable_schema = on")
    with closing(sqlite3.connect(path)) as connection:
        cursor = connection.execute(f"update {table} set {column} = {value} where {where}")
        connection.commit()
    assert cursor.rowcount > 0
    assert_refused(capsys, SHOW, RESUME, TRAIN)


def test_a_score_of_nan_is_a_failed_configuration_and_no_fault(study: Path, capsys: Capture) -> None:
    execute(
        study / "study.db",
        "update trial_intermediate_values set intermediate_value_type = 'NAN', intermediate_value = null where trial_id = 1",
    )
    assert run_cli(SHOW, capsys)[0] == 0


def test_a_missing_epoch_is_no_score(study: Path, capsys: Capture) -> None:
    execute(study / "study.db", "delete from trial_intermediate_values where step = 1")
    assert_refused(capsys, SHOW, RESUME)


def test_the_database_of_another_study_is_named(study: Path, capsys: Capture) -> None:
    execute(study / "study.db", "update studies set study_name = 'two'")
    assert_refused(capsys, SHOW, RESUME, TRAIN, part="two")


def test_trials_of_another_program_in_the_study_are_left_alone(study: Path, capsys: Capture) -> None:
    storage = StudyStorage(database.storage_url(str(study / "study.db")), "one")
    before = storage.load_state()
    optuna.load_study(study_name="one", storage=f"sqlite:///{study}/study.db").enqueue_trial({"optimizer.lr": 0.1})
    assert storage.load_state() == before
    assert run_cli(SHOW, capsys)[0] == 0


CHECKPOINTS: dict[str, Callable[[Path], Any]] = {
    "missing": lambda path: path.unlink(),
    "nothing": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("checkpoint"),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-500]),
    "a list": lambda path: torch.save([1], path),
    "a history of text": lambda path: checkpoint.save(path, checkpoint.load(path) | {"history": "long"}),
    "other tensors": lambda path: checkpoint.save(path, checkpoint.load(path) | {"model": {"weight": torch.ones(2)}}),
    "tensors of NaN": lambda path: checkpoint.save(
        path, checkpoint.load(path) | {"model": {k: v * torch.nan for k, v in checkpoint.load(path)["model"].items()}}
    ),
    "another study's": lambda path: checkpoint.save(path, checkpoint.load(path) | {"fingerprint": "other"}),
}


class StopAtFirstRung(RecordingCallback):
    """Ends a study as a kill would when its first rung closes."""

    def on_rung_end(self, study_state: StudyState, bracket: Bracket, rung_state: RungState) -> None:
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole_study(tmp_path_factory: pytest.TempPathFactory) -> StudyState:
    """The state of a study that nothing happened to."""
    return SmallStudy(tmp_path_factory.mktemp("whole"), squares_dataset(n=96), brackets="s=1").run()


@pytest.mark.slow
@pytest.mark.sampled(8)
@pytest.mark.parametrize("write", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_damaged_checkpoint_costs_its_configuration_nothing_but_time(
    write: Callable[[Path], Any], whole_study: StudyState, tmp_path: Path
) -> None:
    study = SmallStudy(tmp_path, squares_dataset(n=96), brackets="s=1")
    study.callback = StopAtFirstRung()
    with pytest.raises(KeyboardInterrupt):
        study.run()
    paths = sorted((tmp_path / "checkpoints").glob("*.pt"))
    assert len(paths) > 1
    for path in paths:
        write(path)
    study.callback = RecordingCallback()
    assert reproducible_part(study.run()) == reproducible_part(whole_study)


def test_an_unusable_recipe_file_in_the_folder_costs_nothing(study: Path, capsys: Capture) -> None:
    (study / "recipe.yaml").write_text("[" * 1000)  # for people to read; the study reads study.json
    assert run_cli(SHOW, capsys)[0] == 0
    (study / "recipe.yaml").write_text(to_yaml(RECIPE))


def test_the_errors_name_the_database(study: Path) -> None:
    (study / "study.db").write_text("database")
    with pytest.raises(FileError) as caught:
        resume_study("one")
    assert caught.value.path == study / "study.db"
