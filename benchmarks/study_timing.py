"""Timings of a study's first rung, and of the same epochs in a bare loop, for benchmarks/tuning_overhead.py."""

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

from nephros.data.dataset import Dataset
from nephros.data.load import DataRequest, load_dataset
from nephros.data.subset import tuning_subset
from nephros.recipe import Recipe
from nephros.training.progress import NullCallback
from nephros.training.trainer import Trainer
from nephros.tuning.checkpoint_store import CheckpointStore
from nephros.tuning.database import storage_url
from nephros.tuning.executors import Executor, InProcessExecutor, ProcessExecutor, TaskEvent, WorkerSetup
from nephros.tuning.hyperband import Bracket, RungState
from nephros.tuning.optuna_storage import StudyStorage
from nephros.tuning.sample import SampledParams, decode_params, sample_configs
from nephros.tuning.scheduler import HyperbandScheduler
from nephros.tuning.settings import StudySettings, plan_study
from nephros.tuning.space import apply_params, parse_space
from nephros.tuning.study_state import StudyState
from nephros.tuning.trial import Outcome, Task, TrialRunner

Timings = dict[str, float]
"""Part -> seconds per trial."""


@dataclass
class Stopwatch:
    """Seconds spent in named parts, and when each part last ended."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    stopped_at: dict[str, float] = field(default_factory=dict)

    def measure(self, name: str, operation: Callable[[], Any]) -> Any:
        """Return the result of `operation`; add its wall time to `name`, and this thread's CPU time to ``name, cpu``."""
        start, cpu_start = time.perf_counter(), time.thread_time()
        try:
            return operation()
        finally:
            self.stopped_at[name] = time.perf_counter()
            self.seconds[name] += self.stopped_at[name] - start
            self.seconds[f"{name}, cpu"] += time.thread_time() - cpu_start


class CheckpointStoreTimer(CheckpointStore):
    """A CheckpointStore that times lookups and writes; between the two, an epoch is trained."""

    def __init__(self, root: str, stopwatch: Stopwatch) -> None:
        super().__init__(root)
        self._stopwatch = stopwatch

    def load(self, name: str) -> dict[str, Any] | None:
        state: dict[str, Any] | None = self._stopwatch.measure(
            "lookup", lambda: super(CheckpointStoreTimer, self).load(name)
        )
        return state

    def save(self, name: str, state: dict[str, Any]) -> None:
        self._stopwatch.seconds["epoch"] += time.perf_counter() - self._stopwatch.stopped_at["lookup"]
        self._stopwatch.measure("save", lambda: super(CheckpointStoreTimer, self).save(name, state))


class TimedTrialRunner(TrialRunner):
    """A TrialRunner that times how long models take to build."""

    stopwatch: Stopwatch

    def make_trainer(self, recipe: Recipe) -> Trainer:
        trainer: Trainer = self.stopwatch.measure("build", lambda: super(TimedTrialRunner, self).make_trainer(recipe))
        return trainer


class TimedStudyStorage(StudyStorage):
    """A StudyStorage that times its writes, which the background thread does."""

    stopwatch = Stopwatch()

    def add_trial(self, key: tuple[int, int], sampled: SampledParams) -> None:
        self.stopwatch.measure("write", lambda: super(TimedStudyStorage, self).add_trial(key, sampled))

    def report(self, key: tuple[int, int], epoch: int, value: float) -> None:
        self.stopwatch.measure("write", lambda: super(TimedStudyStorage, self).report(key, epoch, value))

    def set_attr(self, key: tuple[int, int], name: str, value: Any) -> None:
        self.stopwatch.measure("write", lambda: super(TimedStudyStorage, self).set_attr(key, name, value))


class _RungClosed(Exception):
    """The first rung is closed."""


class _StopAfterRung:
    """A StudyCallback that ends the study after its first rung."""

    closed_at = 0.0
    """Time of the end of the rung, by time.perf_counter."""

    def on_update(self, study_state: StudyState, running: list[Task]) -> None:
        """Do nothing."""

    def on_rung_end(self, study_state: StudyState, bracket: Bracket, rung_state: RungState) -> None:
        """Raise _RungClosed."""
        self.closed_at = time.perf_counter()
        raise _RungClosed


class RungBenchmark:
    """Trains some configurations of a recipe for one epoch each, in three ways."""

    def __init__(self, recipe: Recipe, source: str, subset: int, n_configs: int, folder: Path) -> None:
        self.n_configs, self._folder, self._n_studies = n_configs, folder, 0
        # With eta = R there are two brackets, of which the first starts R configurations for one epoch.
        study_settings = plan_study(
            recipe, max_epochs=n_configs, eta=n_configs, brackets="s=1", subset=subset, name="rung", device="cpu"
        )
        request: DataRequest = {"source": source, "size": None, "seed": study_settings.seed}
        full_data: Dataset = load_dataset(source, seed=study_settings.seed)
        self.settings: StudySettings = dataclasses.replace(
            study_settings, data_request=request, data=full_data.provenance.to_dict()
        )
        self.title = full_data.provenance.title
        self.dataset = tuning_subset(full_data, subset, study_settings.seed)
        self.space = parse_space(self.settings.space, self.settings.base_recipe, "The space")
        (bracket,) = self.settings.planned_brackets
        assert (bracket.rungs[0].n_configs, bracket.rungs[0].epochs) == (n_configs, 1)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampled = sample_configs(self.settings, self.space, bracket.s, n_configs, [])
        self.recipes = [
            apply_params(self.settings.base_recipe, decode_params(params, self.space)) for params, _ in sampled
        ]
        self.runner = TrialRunner(self.dataset, torch.device("cpu"), CheckpointStore(str(folder / "unused")))

    def warm_up(self) -> None:
        """Train once untimed, as torch's first steps are slow."""
        self.runner.make_trainer(self.recipes[0]).run(None, NullCallback(), stop_epoch=1)

    def time_bare_loop(self) -> Timings:
        """Train and validate each configuration for one epoch, without a study."""
        epoch_seconds = 0.0
        start = time.perf_counter()
        for recipe in self.recipes:
            trainer = self.runner.make_trainer(recipe)
            train_start = time.perf_counter()
            trainer.run(None, NullCallback(), stop_epoch=1)
            epoch_seconds += time.perf_counter() - train_start
        return {"trial": (time.perf_counter() - start) / self.n_configs, "epoch": epoch_seconds / self.n_configs}

    def time_in_process(self) -> Timings:
        """Do the same as a study with trials in this process, timing each part."""
        stopwatch, folder = Stopwatch(), self._new_folder()
        runner = TimedTrialRunner(
            self.dataset, self.runner.device, CheckpointStoreTimer(str(folder / "checkpoints"), stopwatch)
        )
        runner.stopwatch = stopwatch
        storage = TimedStudyStorage(storage_url(str(folder / "study.db")), self.settings.name)
        storage.stopwatch = stopwatch
        parts = self._time_study(storage, runner.store, InProcessExecutor(runner, self.settings.threads_per_trial))
        parts |= {name: seconds / self.n_configs for name, seconds in stopwatch.seconds.items()}
        accounted = sum(parts[name] for name in ("epoch", "build", "lookup", "save"))
        return parts | {"scheduler": parts["trial"] - accounted}

    def time_worker_process(self) -> Timings:
        """Do the same as a study with trials in one worker process, which is ready before the clock starts."""
        folder = self._new_folder()
        store = CheckpointStore(str(folder / "checkpoints"))
        setup: WorkerSetup = {
            "data_request": self.settings.data_request,
            "subset": self.settings.subset,
            "seed": self.settings.seed,
            "device": "cpu",
            "threads": self.settings.threads_per_trial,
            "store": store.root,
        }
        executor = ProcessExecutor(1, setup)
        events: list[TaskEvent] = []
        executor.submit(Task((9, 0), self.recipes[0].to_dict(), stop_epoch=1))  # opens the data and warms up torch
        while not any(isinstance(event, Outcome) for event in events):
            executor.wait(events.append, 1.0)
        return self._time_study(
            StudyStorage(storage_url(str(folder / "study.db")), self.settings.name), store, executor
        )

    def _new_folder(self) -> Path:
        self._n_studies += 1
        return self._folder / f"study-{self.settings.subset}-{self._n_studies}"

    def _time_study(self, storage: StudyStorage, store: CheckpointStore, executor: Executor) -> Timings:
        storage.lock.acquire()
        storage.create_or_verify(self.settings)
        callback = _StopAfterRung()
        scheduler = HyperbandScheduler(storage, self.space, store, executor, callback)
        start = time.perf_counter()
        with contextlib.suppress(_RungClosed):
            scheduler.run()
        storage.lock.release()
        return {"trial": (callback.closed_at - start) / self.n_configs}
