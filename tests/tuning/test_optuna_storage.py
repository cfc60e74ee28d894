"""A study in an SQLite file: what Optuna holds of it, and what happens when the file can't be written."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path

import optuna
import pytest

from nephros.data.dataset import Dataset
from nephros.errors import UserError
from nephros.tuning import optuna_storage as module
from nephros.tuning.optuna_storage import Storage, address
from nephros.tuning.study_state import Records
from nephros.tuning.write_behind import Journal
from tests.tuning.conftest import SmallStudy, timeless


def test_a_disk_that_fills_up_under_the_database_stops_the_study_and_spoils_nothing(
    cells: Dataset, undisturbed: Records, tmp_path: Path
) -> None:
    study = SmallStudy(tmp_path, cells)
    connect = module._sqlite

    def cramped(file: str) -> sqlite3.Connection:
        connection = connect(file)
        pages = connection.execute("pragma page_count").fetchone()[0]
        connection.execute(f"pragma max_page_count={pages + 1}")
        return connection

    study.storage().ensure(study.settings)  # the tables are there: a few more pages, and the disk is full

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_sqlite", cramped)
        with pytest.raises(OSError, match="No space left on device"):
            study.run()
    assert timeless(study.run()) == timeless(undisturbed)


def test_trials_of_others_are_left_alone(cells: Dataset, tmp_path: Path) -> None:
    study = SmallStudy(tmp_path, cells, max_epochs=2)
    study.storage().ensure(study.settings)
    theirs = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path}/study.db")
    theirs.enqueue_trial({"optimizer.lr": 0.1})
    theirs.add_trial(optuna.create_trial(value=1.0))
    records = study.run()
    assert records.over
    assert len(records.configs) == 4
    assert len(theirs.get_trials()) == 6


def test_a_study_of_another_program_is_not_taken_for_ours(tmp_path: Path, cells: Dataset) -> None:
    optuna.create_study(study_name="small", storage=f"sqlite:///{tmp_path}/study.db").add_trial(
        optuna.create_trial(value=1.0)
    )
    study = SmallStudy(tmp_path, cells)
    with pytest.raises(UserError, match="There is no study small in"):
        study.storage().records()
    with pytest.raises(UserError, match="was made with other settings"):
        study.storage().ensure(study.settings)


def test_a_study_whose_making_was_cut_off_is_made_again(tmp_path: Path, cells: Dataset) -> None:
    optuna.create_study(study_name="small", storage=f"sqlite:///{tmp_path}/study.db", direction="maximize")
    study = SmallStudy(tmp_path, cells, max_epochs=1)
    assert study.run().over


def test_other_settings_are_another_study(tmp_path: Path, cells: Dataset) -> None:
    study = SmallStudy(tmp_path, cells)
    storage = study.storage()
    storage.ensure(study.settings)
    storage.ensure(study.settings)
    with pytest.raises(UserError, match="start a new one with another --name"):
        storage.ensure(dataclasses.replace(study.settings, seed=5))


def test_a_second_driver_on_one_file_is_refused(tmp_path: Path) -> None:
    first, second, other = (Storage(address(str(tmp_path / "all.db")), name) for name in ("one", "one", "two"))
    first.lease.take()
    other.lease.take()
    with pytest.raises(UserError, match="Another process is running the study one"):
        second.lease.take()
    first.lease.release()
    second.lease.take()
    for storage in (second, other):
        storage.lease.release()


def test_a_journal_writes_in_order_and_tells_of_trouble() -> None:
    written: list[int] = []
    journal = Journal()
    for i in range(100):
        journal.put(lambda i=i: written.append(i))  # type: ignore[misc]
    journal.close(finish=True)
    assert written == list(range(100))

    def fails() -> None:
        raise OSError("full")

    journal = Journal()
    journal.put(fails)
    journal.put(lambda: written.append(-1))
    with pytest.raises(OSError, match="full"):
        journal.close(finish=True)
    with pytest.raises(OSError, match="full"):
        journal.put(lambda: None)
    assert -1 not in written  # nothing is written past a gap
