"""What a study's driver carries: its computing for a task, and the bytes of tasks, outcomes and checkpoints.

Tasks are answered at once by a pool that trains nothing, so that all the time is the driver's own and its storage's.
ARCHITECTURE.md works out from these figures what a thousand machines would need.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.common import Row, parse, parser, publish
from nephros.data.synthetic import make
from nephros.presets import RECIPES
from nephros.training.history import Epoch
from nephros.tuning import space as spaces
from nephros.tuning.checkpoint_store import Store, checkpoint_name
from nephros.tuning.executors import EpochDone, Hear
from nephros.tuning.hyperband import Bracket, Standing, brackets
from nephros.tuning.optuna_storage import Storage, address
from nephros.tuning.plan import plan
from nephros.tuning.scheduler import Driver
from nephros.tuning.settings import Settings
from nephros.tuning.study_state import Records
from nephros.tuning.trial import Bench, Outcome, Task, outcome_to_dict


class Instant:
    """A pool of many places where every task is done as soon as it is asked for; the learning rate makes the score."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.done: list[Outcome] = []
        self.tasks: list[Task] = []

    def start(self, task: Task) -> None:
        """Do the task."""
        lr = task.recipe["optimizer"]["lr"]
        rows = [
            Epoch(i + 1, lr, 1.0, 0.5, 1.0, i / 1000 - abs(lr - 0.1), 0.5, 0.5, 1.0, 1.0) for i in range(task.until)
        ]
        self.tasks.append(task)
        self.done.append(Outcome(task.key, tuple(rows)))

    def wait(self, hear: Hear, seconds: float) -> None:
        """Tell of one task: its last epochs one by one, as workers do, then its outcome."""
        outcome = self.done.pop(0)
        for row in outcome.rows:
            hear(EpochDone(outcome.key, row))
        hear(outcome)

    def close(self) -> None:
        """Have nothing to stop."""


class Nobody:
    """A Watcher that looks away."""

    def changed(self, records: Records, running: list[Task]) -> None:
        """Look away."""

    def closed(self, records: Records, bracket: Bracket, standing: Standing) -> None:
        """Look away."""


def load(settings: Settings, places: int, folder: Path) -> Row:
    """Run a whole study on a pool of so many places, and return what a task took."""
    storage = Storage(address(str(folder / f"{settings.name}.db")), settings.name)
    storage.lease.take()
    storage.ensure(settings)
    pool, space = Instant(places), spaces.parse(settings.space, settings.base, "The space")
    driver = Driver(storage, space, Store(str(folder / settings.name)), pool, Nobody())
    wall, busy = time.perf_counter(), time.process_time()
    driver.run()
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    storage.lease.release()
    plan_of = brackets(settings.max_epochs, settings.eta)
    tasks, epochs = len(pool.tasks), sum(bracket.epochs for bracket in plan_of)
    return {
        "R": settings.max_epochs,
        "configurations": sum(bracket.configs for bracket in plan_of),
        "tasks": tasks,
        "epochs": epochs,
        "busy_on_average": epochs / settings.max_epochs,
        "computing_ms_a_task": 1000 * busy / tasks,
        "computing_ms_an_epoch": 1000 * busy / epochs,
        "wall_ms_an_epoch": 1000 * wall / epochs,
        "task_bytes": len(json.dumps(dataclasses.asdict(pool.tasks[0]))),
        "outcome_bytes_an_epoch": len(json.dumps(outcome_to_dict(Outcome((0, 0), pool_row())))),
    }


def pool_row() -> tuple[Epoch, ...]:
    """Return one epoch with figures of the usual length."""
    third = 1 / 3
    return (Epoch(1, third, third, third, third, third, third, third, 10 * third, 1000 * third),)


def checkpoints(folder: Path) -> list[Row]:
    """Return the size of a checkpoint of some recipes after an epoch."""
    store = Store(str(folder / "checkpoints"))
    bench = Bench(make(n_train=64, n_val=16, n_test=8), torch.device("cpu"), store)
    sizes = []
    for name in ("course-1", "poster", "compact"):
        bench.advance(Task((0, 0), RECIPES[name].to_dict(), 1), lambda row: None)
        bytes_of = (folder / "checkpoints" / checkpoint_name(0, 0)).stat().st_size
        store.delete(checkpoint_name(0, 0))
        sizes.append({"checkpoint_of": name, "checkpoint_bytes": bytes_of})
    return sizes


def main() -> None:
    """Run the benchmark."""
    settings = parse(parser(__doc__ or ""), "driver_load")
    sizes = [(3, 4), (9, 20)] if settings.quick else [(27, 4), (81, 100), (243, 300), (729, 1000)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        for most, places in sizes:
            planned = plan("poster", max_epochs=most, name=f"load-{most}", device="cpu")
            planned = dataclasses.replace(planned, data={"sha256": "0" * 64, "title": "none", "split": "none"})
            rows.append({"places": places, **load(planned, places, Path(place))})
        rows += checkpoints(Path(place))
    publish(settings, "A study's driver, with tasks that take no time", rows)


if __name__ == "__main__":
    main()
