"""The first rung of a study and the same epochs in a bare loop, timed, for benchmarks/tuning_overhead.py."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import torch

from benchmarks.tuners.epochs import Silent
from nephros.data.dataset import Dataset
from nephros.data.load import load
from nephros.data.subset import cut
from nephros.recipe import Recipe
from nephros.training.trainer import Fit
from nephros.tuning.checkpoint_store import Store
from nephros.tuning.executors import Event, Here, Pool, Processes
from nephros.tuning.hyperband import Bracket, Standing
from nephros.tuning.optuna_storage import Storage, address
from nephros.tuning.plan import plan
from nephros.tuning.sample import Drawn, draw, plain
from nephros.tuning.scheduler import Driver
from nephros.tuning.settings import Settings
from nephros.tuning.space import laid_over, parse
from nephros.tuning.study_state import Records
from nephros.tuning.trial import Bench, Outcome, Task

Parts = dict[str, float]
"""What -> seconds a trial."""


@dataclass
class Clock:
    """Seconds spent in named parts, and moments."""

    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    at: dict[str, float] = field(default_factory=dict)

    def timed(self, name: str, work: Callable[[], Any]) -> Any:
        """Do `work`, and add what it took, and what of it this thread was computing for, to `name`."""
        start, computing = time.perf_counter(), time.thread_time()
        try:
            return work()
        finally:
            self.at[name] = time.perf_counter()
            self.spent[name] += self.at[name] - start
            self.spent[f"{name}, computing"] += time.thread_time() - computing


class TimedStore(Store):
    """A store of checkpoints that tells when each is looked for and written; in between an epoch is trained."""

    def __init__(self, root: str, clock: Clock) -> None:
        super().__init__(root)
        self._clock = clock

    def load(self, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._clock.timed("look", lambda: super(TimedStore, self).load(name))
        return found

    def save(self, name: str, state: dict[str, Any]) -> None:
        self._clock.spent["epoch"] += time.perf_counter() - self._clock.at["look"]
        self._clock.timed("save", lambda: super(TimedStore, self).save(name, state))


class TimedBench(Bench):
    """A bench that tells how long the model takes to build."""

    clock: Clock

    def fit(self, recipe: Recipe) -> Fit:
        made: Fit = self.clock.timed("build", lambda: super(TimedBench, self).fit(recipe))
        return made


class TimedStorage(Storage):
    """A storage that tells what the writes take, which the journal's own thread does."""

    clock = Clock()

    def add(self, key: tuple[int, int], drawn: Drawn) -> None:
        self.clock.timed("write", lambda: super(TimedStorage, self).add(key, drawn))

    def report(self, key: tuple[int, int], epoch: int, value: float) -> None:
        self.clock.timed("write", lambda: super(TimedStorage, self).report(key, epoch, value))

    def note(self, key: tuple[int, int], name: str, value: Any) -> None:
        self.clock.timed("write", lambda: super(TimedStorage, self).note(key, name, value))


class _RungOver(Exception):
    """The first rung is closed."""


class _Stop:
    """A Watcher that ends the study after its first rung."""

    closed_at = 0.0
    """When, by time.perf_counter."""

    def changed(self, records: Records, running: list[Task]) -> None:
        """Nothing to see."""

    def closed(self, records: Records, bracket: Bracket, standing: Standing) -> None:
        """End it."""
        self.closed_at = time.perf_counter()
        raise _RungOver


class Rung:
    """Some configurations of a recipe for an epoch each, on given data."""

    def __init__(self, recipe: Recipe, source: str, subset: int, configs: int, place: Path) -> None:
        self.configs, self._place, self._rounds = configs, place, 0
        # With eta = R there are two brackets, and the first begins with R configurations for an epoch.
        planned = plan(
            recipe, max_epochs=configs, eta=configs, brackets="s=1", subset=subset, name="rung", device="cpu"
        )
        request = {"source": source, "size": None, "seed": planned.seed}
        whole: Dataset = load(source, seed=planned.seed)
        self.settings: Settings = dataclasses.replace(planned, request=request, data=whole.provenance.to_dict())
        self.title = whole.provenance.title
        self.dataset = cut(whole, subset, planned.seed)
        self.space = parse(self.settings.space, self.settings.base, "The space")
        (bracket,) = self.settings.plan
        assert (bracket.rungs[0].configs, bracket.rungs[0].epochs) == (configs, 1)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        drawn = draw(self.settings, self.space, bracket.s, configs, [])
        self.recipes = [laid_over(self.settings.base, plain(params, self.space)) for params, _ in drawn]
        self.bench = Bench(self.dataset, torch.device("cpu"), Store(str(place / "unused")))

    def warm_up(self) -> None:
        """Let torch do once what it does at first only."""
        self.bench.fit(self.recipes[0]).run(None, Silent(), until=1)

    def bare(self) -> Parts:
        """Train and judge each configuration for an epoch, with nothing around it."""
        epoch = 0.0
        start = time.perf_counter()
        for recipe in self.recipes:
            fit = self.bench.fit(recipe)
            begun = time.perf_counter()
            fit.run(None, Silent(), until=1)
            epoch += time.perf_counter() - begun
        return {"trial": (time.perf_counter() - start) / self.configs, "epoch": epoch / self.configs}

    def here(self) -> Parts:
        """Do it as a study whose trials run in this process; with what each part took."""
        clock, folder = Clock(), self._fresh()
        bench = TimedBench(self.dataset, self.bench.device, TimedStore(str(folder / "checkpoints"), clock))
        bench.clock = clock
        storage = TimedStorage(address(str(folder / "study.db")), self.settings.name)
        storage.clock = clock
        parts = self._run(storage, bench.store, Here(bench, self.settings.threads))
        parts |= {name: seconds / self.configs for name, seconds in clock.spent.items()}
        known = sum(parts[name] for name in ("epoch", "build", "look", "save"))
        return parts | {"rest": parts["trial"] - known}

    def process(self) -> Parts:
        """Do it as a study whose trials run in one worker process, ready before the clock starts."""
        folder = self._fresh()
        store = Store(str(folder / "checkpoints"))
        setup = {
            "request": self.settings.request,
            "subset": self.settings.subset,
            "seed": self.settings.seed,
            "device": "cpu",
            "threads": self.settings.threads,
            "store": store.root,
        }
        pool = Processes(1, setup)
        told: list[Event] = []
        pool.start(Task((9, 0), self.recipes[0].to_dict(), until=1))  # opens the data, and warms torch up
        while not any(isinstance(event, Outcome) for event in told):
            pool.wait(told.append, 1.0)
        return self._run(Storage(address(str(folder / "study.db")), self.settings.name), store, pool)

    def _fresh(self) -> Path:
        self._rounds += 1
        return self._place / f"study-{self.settings.subset}-{self._rounds}"

    def _run(self, storage: Storage, store: Store, pool: Pool) -> Parts:
        storage.lease.take()
        storage.ensure(self.settings)
        watcher = _Stop()
        driver = Driver(storage, self.space, store, pool, watcher)
        start = time.perf_counter()
        with contextlib.suppress(_RungOver):
            driver.run()
        storage.lease.release()
        return {"trial": (watcher.closed_at - start) / self.configs}
