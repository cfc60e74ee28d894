"""Worker processes: real ones, with data and disks that may fail."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from nephros.data.split import Split
from nephros.errors import NephrosError
from nephros.presets import RECIPES
from nephros.tuning.checkpoint_store import CheckpointStore
from nephros.tuning.executors import EpochDone, ProcessExecutor, TaskEvent, WorkerLost, WorkerSetup
from nephros.tuning.trial import Outcome, Task, TrialRunner
from tests.conftest import square_images, squares_dataset, write_npz
from tests.tuning.conftest import RECIPE


def make_setup(folder: Path, **changes: Any) -> WorkerSetup:
    data = write_npz(folder / "squares.npz", squares_dataset(n=64))
    request = {"source": str(data), "size": None, "seed": 0}
    setup: dict[str, Any] = {
        "data_request": request,
        "subset": None,
        "seed": 0,
        "device": "cpu",
        "threads": 1,
        "store": str(folder / "kept"),
    }
    return cast(WorkerSetup, setup | changes)


def collect(executor: ProcessExecutor, event_type: type[TaskEvent], seconds: float = 120) -> list[TaskEvent]:
    """Return the events up to the first of `event_type`."""
    events: list[TaskEvent] = []
    deadline = time.monotonic() + seconds
    while not any(isinstance(event, event_type) for event in events):
        assert time.monotonic() < deadline, events
        executor.wait(events.append, 1.0)
    return events


@pytest.mark.slow
def test_a_worker_trains_reports_epochs_dies_and_is_replaced(tmp_path: Path) -> None:
    executor = ProcessExecutor(1, make_setup(tmp_path))
    try:
        executor.submit(Task((0, 0), RECIPE.to_dict(), 2))
        events = collect(executor, Outcome)
        assert [event.metrics.epoch for event in events if isinstance(event, EpochDone)] == [1, 2]
        outcome = events[-1]
        assert isinstance(outcome, Outcome)
        assert (outcome.key, outcome.early_stopped, outcome.error, len(outcome.history)) == ((0, 0), False, None, 2)
        executor.submit(Task((0, 0), {**RECIPE.to_dict(), "epochs": 10_000}, 10_000))
        collect(executor, EpochDone)
        (first_pid,) = executor.pids
        os.kill(first_pid, signal.SIGKILL)
        last_event = collect(executor, WorkerLost)[-1]
        assert last_event == WorkerLost((0, 0))
        (second_pid,) = executor.pids
        assert second_pid != first_pid
        executor.submit(Task((0, 0), RECIPE.to_dict(), 3))
        outcome = collect(executor, Outcome)[-1]
        assert isinstance(outcome, Outcome)
        assert len(outcome.history) >= 3  # it continued where the dead worker stopped
    finally:
        executor.close()
    for pid in (first_pid, second_pid):
        assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_data_that_a_worker_cannot_open_is_named(tmp_path: Path) -> None:
    missing = {"source": str(tmp_path / "none.npz"), "size": None, "seed": 0}
    executor = ProcessExecutor(1, make_setup(tmp_path, data_request=missing))
    try:
        with pytest.raises(NephrosError, match=r"none\.npz"):
            collect(executor, Outcome)
    finally:
        executor.close()


@pytest.mark.slow
def test_a_failing_disk_is_not_a_configurations_failure(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("in the way")  # no checkpoint can be written under a file
    executor = ProcessExecutor(1, make_setup(tmp_path))
    try:
        executor.submit(Task((0, 0), RECIPE.to_dict(), 1))
        with pytest.raises(OSError, match=r"exists|Not a directory"):
            collect(executor, Outcome)
    finally:
        executor.close()


@pytest.mark.slow
def test_workers_that_die_at_startup_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    executor = ProcessExecutor(1, make_setup(tmp_path))
    try:
        with pytest.raises(NephrosError, match="workers"):
            collect(executor, Outcome, seconds=60)
    finally:
        executor.close()


def test_a_batch_of_one_image_fails_in_training_only(tmp_path: Path) -> None:
    images, labels = square_images(33, 2, seed=0)
    split = Split(np.ascontiguousarray(images[:, 10:18, 10:18]), labels)
    dataset = dataclasses.replace(squares_dataset(n=8), train=split, val=split, class_names=("a", "b"))
    recipe = dataclasses.replace(RECIPES["compact"], batch_size=32, last_batch="short")
    runner = TrialRunner(dataset, torch.device("cpu"), CheckpointStore(str(tmp_path)))
    runner.make_trainer(recipe)  # as the best configuration's weights are opened, which other images trained
    outcome = runner.run_task(Task((0, 0), recipe.to_dict(), 1), lambda epoch: None)
    assert outcome.error is not None
    assert "the last batch of 33 images is not a single image" in outcome.error
