"""Worker processes: real ones, on data and disks that may fail them."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nephros.errors import UserError
from nephros.tuning.executors import EpochDone, Event, Lost, Processes
from nephros.tuning.trial import Outcome, Task
from tests.conftest import made_up, write_npz
from tests.tuning.conftest import RECIPE


def setup(folder: Path, **changes: Any) -> dict[str, Any]:
    data = write_npz(folder / "squares.npz", made_up(n=64))
    request = {"source": str(data), "size": None, "seed": 0}
    made = {"request": request, "subset": None, "seed": 0, "device": "cpu", "threads": 1, "store": str(folder / "kept")}
    return made | changes


def collect(pool: Processes, until: type[Event], seconds: float = 120) -> list[Event]:
    """Return the events up to the first of a kind."""
    heard: list[Event] = []
    deadline = time.monotonic() + seconds
    while not any(isinstance(event, until) for event in heard):
        assert time.monotonic() < deadline, heard
        pool.wait(heard.append, 1.0)
    return heard


def test_a_worker_trains_tells_of_epochs_dies_and_is_replaced(tmp_path: Path) -> None:
    pool = Processes(1, setup(tmp_path))
    try:
        pool.start(Task((0, 0), RECIPE.to_dict(), 2))
        heard = collect(pool, Outcome)
        assert [event.row.epoch for event in heard if isinstance(event, EpochDone)] == [1, 2]
        outcome = heard[-1]
        assert isinstance(outcome, Outcome)
        assert (outcome.key, outcome.ended, outcome.error, len(outcome.rows)) == ((0, 0), False, None, 2)
        pool.start(Task((0, 0), {**RECIPE.to_dict(), "epochs": 10_000}, 10_000))
        collect(pool, EpochDone)
        (before,) = pool.pids
        os.kill(before, signal.SIGKILL)
        lost = collect(pool, Lost)[-1]
        assert lost == Lost((0, 0))
        (after,) = pool.pids
        assert after != before
        pool.start(Task((0, 0), RECIPE.to_dict(), 3))
        outcome = collect(pool, Outcome)[-1]
        assert isinstance(outcome, Outcome)
        assert len(outcome.rows) >= 3  # it went on from where the dead one was
    finally:
        pool.close()
    for pid in (before, after):
        assert not Path(f"/proc/{pid}").exists()


def test_what_a_worker_can_not_open_is_told_in_its_words(tmp_path: Path) -> None:
    missing = {"source": str(tmp_path / "none.npz"), "size": None, "seed": 0}
    pool = Processes(1, setup(tmp_path, request=missing))
    try:
        with pytest.raises(UserError, match=r"none\.npz"):
            collect(pool, Outcome)
    finally:
        pool.close()


def test_a_disk_that_fails_a_worker_is_no_configurations_failure(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("in the way")  # no checkpoint can be written under a file
    pool = Processes(1, setup(tmp_path))
    try:
        pool.start(Task((0, 0), RECIPE.to_dict(), 1))
        with pytest.raises(OSError, match=r"exists|Not a directory"):
            collect(pool, Outcome)
    finally:
        pool.close()


def test_workers_that_die_at_their_birth_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    pool = Processes(1, setup(tmp_path))
    try:
        with pytest.raises(UserError, match="die while they start"):
            collect(pool, Outcome, seconds=60)
    finally:
        pool.close()
