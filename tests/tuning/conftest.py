"""A small study that can be run in this process, with whatever pool a test likes."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nephros.data.dataset import Dataset
from nephros.recipe import Recipe
from nephros.recipe_parts import Model, Optimizer
from nephros.tuning import space as spaces
from nephros.tuning.checkpoint_store import Store
from nephros.tuning.executors import Here, Pool
from nephros.tuning.hyperband import Bracket, Standing
from nephros.tuning.optuna_storage import Storage, address
from nephros.tuning.plan import plan
from nephros.tuning.scheduler import Driver
from nephros.tuning.settings import Settings
from nephros.tuning.study_state import Records
from nephros.tuning.trial import Bench, Task
from tests.conftest import made_up

RECIPE = Recipe(
    name="small",
    model=Model(network="course", features=4, depth=1, hidden=(16,)),
    optimizer=Optimizer(name="sgd", lr=0.01, momentum=0.5),
    batch_size=32,
)
SPACE: dict[str, Any] = {
    "optimizer.lr": {"low": 0.001, "high": 0.5, "log": True},
    "optimizer.name": ["sgd", "adam"],
    "optimizer.momentum": {"low": 0.1, "high": 0.95, "when": {"optimizer.name": ["sgd"]}},
    "model.features": {"low": 2, "high": 6},
    "model.hidden": [[16], [24, 8]],
}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Return a folder in memory, where there is one: a study waits for the disk after every epoch, some 15 ms."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


class Quiet:
    """A Watcher that remembers which rungs it heard of."""

    def __init__(self) -> None:
        self.rungs: list[tuple[int, int]] = []

    def changed(self, records: Records, running: list[Task]) -> None:
        pass

    def closed(self, records: Records, bracket: Bracket, standing: Standing) -> None:
        self.rungs.append((bracket.s, standing.rung.epochs))


class SmallStudy:
    """A study in `folder` on a Dataset, run as often as a test wants."""

    def __init__(self, folder: Path, dataset: Dataset, recipe: Recipe = RECIPE, **changes: Any) -> None:
        options: dict[str, Any] = {
            "max_epochs": 4,
            "eta": 2,
            "space": SPACE,
            "name": "small",
            "device": "cpu",
            **changes,
        }
        planned = plan(recipe, **options)
        self.settings: Settings = dataclasses.replace(planned, data=dataset.provenance.to_dict())
        self.folder, self.dataset = folder, dataset
        self.store = Store(str(folder / "checkpoints"))
        self.watcher = Quiet()

    @property
    def bench(self) -> Bench:
        return Bench(self.dataset, torch.device("cpu"), self.store)

    def storage(self) -> Storage:
        return Storage(address(str(self.folder / "study.db")), self.settings.name)

    def run(self, pool: Pool | None = None, minutes: float | None = None) -> Records:
        """Take the study on, as a new process would, and return it as it is stored."""
        storage = self.storage()
        storage.lease.take()
        try:
            storage.ensure(self.settings)
            space = spaces.parse(self.settings.space, self.settings.base, "The space")
            pool = Here(self.bench, 1) if pool is None else pool
            Driver(storage, space, self.store, pool, self.watcher).run(minutes)
        finally:
            storage.lease.release()
        return self.storage().records()


def timeless(records: Records) -> dict[Any, Any]:
    """Return all that must be the same however a study was run."""
    return {
        key: (config.params, config.values, config.state, config.error, config.ended)
        for key, config in records.configs.items()
    } | {"best": records.best, "over": records.over}


@pytest.fixture(scope="session")
def cells() -> Dataset:
    return made_up(n=128)


@pytest.fixture(scope="session")
def undisturbed(cells: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Records:
    """The small study as it comes out when nothing happens to it."""
    return SmallStudy(tmp_path_factory.mktemp("undisturbed"), cells).run()
