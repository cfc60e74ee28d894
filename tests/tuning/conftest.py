"""A small study that tests run in this process, with any executor."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nephros.data.dataset import Dataset
from nephros.recipe import ModelConfig, OptimizerConfig, Recipe
from nephros.tuning.checkpoint_store import CheckpointStore
from nephros.tuning.database import storage_url
from nephros.tuning.executors import Executor, InProcessExecutor
from nephros.tuning.hyperband import Bracket, RungState
from nephros.tuning.optuna_storage import StudyStorage
from nephros.tuning.scheduler import HyperbandScheduler
from nephros.tuning.settings import StudySettings, plan_study
from nephros.tuning.space import parse_space
from nephros.tuning.study_state import StudyState
from nephros.tuning.trial import Task, TrialRunner
from tests.conftest import squares_dataset
from tests.trained_run import make_once

RECIPE = Recipe(
    name="small",
    model=ModelConfig(network="course", base_channels=4, depth=1, hidden=(16,)),
    optimizer=OptimizerConfig(name="sgd", lr=0.01, momentum=0.5),
    batch_size=32,
)
SPACE: dict[str, Any] = {
    "optimizer.lr": {"low": 0.001, "high": 0.5, "log": True},
    "optimizer.name": ["sgd", "adam"],
    "optimizer.momentum": {"low": 0.1, "high": 0.95, "when": {"optimizer.name": ["sgd"]}},
    "model.base_channels": {"low": 2, "high": 6},
    "model.hidden": [[16], [24, 8]],
}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Return a folder in memory, if possible: a study waits for the disk after every epoch, some 15 ms."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


class RecordingCallback:
    """A StudyCallback that records the closed rungs."""

    def __init__(self) -> None:
        self.rungs: list[tuple[int, int]] = []

    def on_update(self, study_state: StudyState, running: list[Task]) -> None:
        pass

    def on_rung_end(self, study_state: StudyState, bracket: Bracket, rung_state: RungState) -> None:
        self.rungs.append((bracket.s, rung_state.rung.epochs))


class SmallStudy:
    """A study in `folder` on a Dataset, which tests may run repeatedly."""

    def __init__(self, folder: Path, dataset: Dataset, recipe: Recipe = RECIPE, **changes: Any) -> None:
        options: dict[str, Any] = {
            "max_epochs": 4,
            "eta": 2,
            "space": SPACE,
            "name": "small",
            "device": "cpu",
            **changes,
        }
        study_settings = plan_study(recipe, **options)
        self.settings: StudySettings = dataclasses.replace(study_settings, data=dataset.provenance.to_dict())
        self.folder, self.dataset = folder, dataset
        self.store = CheckpointStore(str(folder / "checkpoints"))
        self.callback = RecordingCallback()

    @property
    def runner(self) -> TrialRunner:
        return TrialRunner(self.dataset, torch.device("cpu"), self.store)

    def storage(self) -> StudyStorage:
        return StudyStorage(storage_url(str(self.folder / "study.db")), self.settings.name)

    def run(self, executor: Executor | None = None, max_minutes: float | None = None) -> StudyState:
        """Run the study as a new process would, and return its stored state."""
        storage = self.storage()
        storage.lock.acquire()
        try:
            storage.create_or_verify(self.settings)
            space = parse_space(self.settings.space, self.settings.base_recipe, "The space")
            executor = InProcessExecutor(self.runner, 1) if executor is None else executor
            HyperbandScheduler(storage, space, self.store, executor, self.callback).run(max_minutes)
        finally:
            storage.lock.release()
        return self.storage().load_state()


def reproducible_part(study_state: StudyState) -> dict[Any, Any]:
    """Return everything that must not depend on how the study was run."""
    return {
        key: (config.params, config.values, config.state, config.error, config.early_stopped)
        for key, config in study_state.configs.items()
    } | {"best": study_state.best, "finished": study_state.finished}


@pytest.fixture(scope="session")
def cells() -> Dataset:
    return squares_dataset(n=128)


@pytest.fixture(scope="session")
def reference(cells: Dataset, shared_dir: Path) -> Callable[[int], SmallStudy]:
    """Return the small study of so many epochs, run without interruption; its folder is not to be changed."""

    def make(max_epochs: int) -> SmallStudy:
        def run(folder: Path) -> None:
            folder.mkdir()
            SmallStudy(folder, cells, max_epochs=max_epochs).run()

        return SmallStudy(make_once(shared_dir / f"study-{max_epochs}", run), cells, max_epochs=max_epochs)

    return make


@pytest.fixture(scope="session")
def reference_study(reference: Callable[[int], SmallStudy]) -> SmallStudy:
    return reference(4)


@pytest.fixture(scope="session")
def reference_state(reference_study: SmallStudy) -> StudyState:
    """The final state of the small study, run without interruption."""
    return reference_study.storage().load_state()
