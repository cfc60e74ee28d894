"""A study in an SQLite file: what Optuna sees of it, and what happens when the file can't be written."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from nephros.data.dataset import Dataset
from nephros.errors import FileError, IncompatibleError, InvalidArgument, LockedError
from nephros.tuning import optuna_storage as module
from nephros.tuning.database import connect_sqlite, storage_url
from nephros.tuning.optuna_storage import StudyStorage, WriteBehindQueue
from tests.tuning.conftest import SmallStudy, reproducible_part


@pytest.mark.slow
def test_a_full_disk_under_the_database_stops_the_study_and_damages_nothing(
    cells: Dataset, reference: Callable[[int], SmallStudy], tmp_path: Path
) -> None:
    study = SmallStudy(tmp_path, cells)

    def cramped(file: str) -> sqlite3.Connection:
        connection = connect_sqlite(file)
        pages = connection.execute("pragma page_count").fetchone()[0]
        connection.execute(f"pragma max_page_count={pages + 1}")
        return connection

    study.storage().create_or_verify(study.settings)  # creates the tables; a few pages later the disk is full

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "connect_sqlite", cramped)
        with pytest.raises(OSError, match="No space left on device"):
            study.run()
    assert reproducible_part(study.run()) == reproducible_part(reference(4).storage().load_state())


@pytest.mark.slow
def test_trials_of_other_programs_are_left_alone(cells: Dataset, tmp_path: Path) -> None:
    study = SmallStudy(tmp_path, cells, max_epochs=2)
    study.storage().create_or_verify(study.settings)
    optuna_study = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path}/study.db")
    optuna_study.enqueue_trial({"optimizer.lr": 0.1})
    optuna_study.add_trial(optuna.create_trial(value=1.0))
    study_state = study.run()
    assert study_state.finished
    assert len(study_state.configs) == 4
    assert len(optuna_study.get_trials()) == 6


def test_a_study_of_another_program_is_refused(tmp_path: Path, cells: Dataset) -> None:
    optuna.create_study(study_name="small", storage=f"sqlite:///{tmp_path}/study.db").add_trial(
        optuna.create_trial(value=1.0)
    )
    study = SmallStudy(tmp_path, cells)
    with pytest.raises(FileError, match="small"):
        study.storage().load_state()
    with pytest.raises(IncompatibleError, match="small"):
        study.storage().create_or_verify(study.settings)


def test_a_half_created_study_is_created_again(tmp_path: Path, cells: Dataset) -> None:
    optuna.create_study(study_name="small", storage=f"sqlite:///{tmp_path}/study.db", direction="maximize")
    study = SmallStudy(tmp_path, cells, max_epochs=1)
    assert study.run().finished


def test_other_settings_are_refused(tmp_path: Path, cells: Dataset) -> None:
    study = SmallStudy(tmp_path, cells)
    storage = study.storage()
    storage.create_or_verify(study.settings)
    storage.create_or_verify(study.settings)
    with pytest.raises(IncompatibleError, match="small"):
        storage.create_or_verify(dataclasses.replace(study.settings, seed=5))


@pytest.mark.parametrize("storage", ["mysql://me:secret@host/base", "http:/x://", "postgresql://host"])
def test_a_storage_of_another_kind_is_refused(storage: str) -> None:
    with pytest.raises(InvalidArgument) as excinfo:
        storage_url(storage)
    assert excinfo.value.parameter == "storage"
    assert "secret" not in str(excinfo.value)


def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    first, second, other = (StudyStorage(storage_url(str(tmp_path / "all.db")), name) for name in ("one", "one", "two"))
    first.lock.acquire()
    other.lock.acquire()
    with pytest.raises(LockedError, match="study one"):
        second.lock.acquire()
    first.lock.release()
    second.lock.acquire()
    for storage in (second, other):
        storage.lock.release()


def test_writes_are_carried_out_in_order() -> None:
    written: list[int] = []
    write_queue = WriteBehindQueue()
    for i in range(100):
        write_queue.put(lambda i=i: written.append(i))  # type: ignore[misc]
    write_queue.close(drain=True)
    assert written == list(range(100))


def test_nothing_is_written_after_a_failed_write() -> None:
    written: list[int] = []

    def fail() -> None:
        raise OSError("full")

    write_queue = WriteBehindQueue()
    write_queue.put(fail)
    write_queue.put(lambda: written.append(-1))
    with pytest.raises(OSError, match="full"):
        write_queue.close(drain=True)
    with pytest.raises(OSError, match="full"):
        write_queue.put(lambda: None)
    assert -1 not in written  # nothing is written after a failed write
