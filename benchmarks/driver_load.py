"""The load of a study's driver: CPU time per task, and the size of tasks, outcomes and checkpoints.

An executor that trains nothing finishes every task at once, so all time is that of the driver and its storage.
docs/results/scaling.md derives from these figures what a thousand machines would need.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.common import Row, build_parser, parse_config, publish
from nephros.data.provenance import Provenance
from nephros.data.synthetic import make_synthetic
from nephros.presets import RECIPES
from nephros.training.history import EpochMetrics
from nephros.tuning.checkpoint_store import CheckpointStore, checkpoint_name
from nephros.tuning.database import storage_url
from nephros.tuning.executors import EpochDone, EventHandler
from nephros.tuning.hyperband import Bracket, RungState, make_brackets
from nephros.tuning.optuna_storage import StudyStorage
from nephros.tuning.scheduler import HyperbandScheduler
from nephros.tuning.settings import StudySettings, plan_study
from nephros.tuning.space import parse_space
from nephros.tuning.study_state import StudyState
from nephros.tuning.trial import Outcome, Task, TrialRunner, outcome_to_dict


class InstantExecutor:
    """An executor that finishes every task at once; the score follows from the learning rate."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.outcomes: list[Outcome] = []
        self.tasks: list[Task] = []

    def submit(self, task: Task) -> None:
        """Finish the task."""
        lr = task.recipe["optimizer"]["lr"]
        history = [
            EpochMetrics(i + 1, lr, 1.0, 0.5, 1.0, i / 1000 - abs(lr - 0.1), 0.5, 0.5, 1.0, 1.0)
            for i in range(task.stop_epoch)
        ]
        self.tasks.append(task)
        self.outcomes.append(Outcome(task.key, tuple(history)))

    def wait(self, on_event: EventHandler, timeout: float) -> None:
        """Pass on one task's epochs one by one, as workers do, then its outcome."""
        outcome = self.outcomes.pop(0)
        for metrics in outcome.history:
            on_event(EpochDone(outcome.key, metrics))
        on_event(outcome)

    def close(self) -> None:
        """Do nothing."""


class NullStudyCallback:
    """A StudyCallback that does nothing."""

    def on_update(self, study_state: StudyState, running: list[Task]) -> None:
        """Do nothing."""

    def on_rung_end(self, study_state: StudyState, bracket: Bracket, rung_state: RungState) -> None:
        """Do nothing."""


def measure_load(settings: StudySettings, n_slots: int, folder: Path) -> Row:
    """Run a whole study with `n_slots` workers, and return its cost per task and epoch."""
    storage = StudyStorage(storage_url(str(folder / f"{settings.name}.db")), settings.name)
    storage.lock.acquire()
    storage.create_or_verify(settings)
    executor, space = InstantExecutor(n_slots), parse_space(settings.space, settings.base_recipe, "The space")
    scheduler = HyperbandScheduler(
        storage, space, CheckpointStore(str(folder / settings.name)), executor, NullStudyCallback()
    )
    wall_seconds, cpu_seconds = time.perf_counter(), time.process_time()
    scheduler.run()
    wall_seconds, cpu_seconds = time.perf_counter() - wall_seconds, time.process_time() - cpu_seconds
    storage.lock.release()
    brackets = make_brackets(settings.max_epochs, settings.eta)
    n_tasks, n_epochs = len(executor.tasks), sum(bracket.total_epochs for bracket in brackets)
    return {
        "R": settings.max_epochs,
        "configurations": sum(bracket.n_configs for bracket in brackets),
        "tasks": n_tasks,
        "epochs": n_epochs,
        "mean_busy_workers": n_epochs / settings.max_epochs,
        "cpu_ms_per_task": 1000 * cpu_seconds / n_tasks,
        "cpu_ms_per_epoch": 1000 * cpu_seconds / n_epochs,
        "wall_ms_per_epoch": 1000 * wall_seconds / n_epochs,
        "task_bytes": len(json.dumps(dataclasses.asdict(executor.tasks[0]))),
        "outcome_bytes_per_epoch": len(json.dumps(outcome_to_dict(Outcome((0, 0), sample_history())))),
    }


def sample_history() -> tuple[EpochMetrics, ...]:
    """Return one epoch whose numbers have all their digits."""
    third = 1 / 3
    return (EpochMetrics(1, third, third, third, third, third, third, third, 10 * third, 1000 * third),)


def checkpoint_sizes(folder: Path) -> list[Row]:
    """Return the checkpoint sizes of some recipes after one epoch."""
    store = CheckpointStore(str(folder / "checkpoints"))
    runner = TrialRunner(make_synthetic(n_train=64, n_val=16, n_test=8), torch.device("cpu"), store)
    rows = []
    for name in ("course-1", "poster", "compact"):
        runner.run_task(Task((0, 0), RECIPES[name].to_dict(), 1), lambda metrics: None)
        n_bytes = (folder / "checkpoints" / checkpoint_name(0, 0)).stat().st_size
        store.delete(checkpoint_name(0, 0))
        rows.append({"checkpoint_of": name, "checkpoint_bytes": n_bytes})
    return rows


def main() -> None:
    """Run the benchmark."""
    config = parse_config(build_parser(__doc__ or ""), "driver_load")
    sizes = [(3, 4), (9, 20)] if config.quick else [(27, 4), (81, 100), (243, 300), (729, 1000)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for max_epochs, n_slots in sizes:
            settings = plan_study("poster", max_epochs=max_epochs, name=f"load-{max_epochs}", device="cpu")
            settings = dataclasses.replace(settings, data=Provenance("none", "own", "", "0" * 64).to_dict())
            rows.append({"workers": n_slots, **measure_load(settings, n_slots, Path(folder))})
        rows += checkpoint_sizes(Path(folder))
    publish(config, "A study's driver with tasks that take no time", rows)


if __name__ == "__main__":
    main()
