"""The main loop of a study: decide which tasks are due, run them, and store their results until none is left.

Every decision follows from the stored scores alone (hyperband.rung_states), so neither the order of tasks, nor who ran them,
nor any number of killed drivers changes the result.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Protocol

from nephros.errors import NephrosError
from nephros.training.history import EpochMetrics
from nephros.tuning.checkpoint_store import CheckpointStore, best_checkpoint_name, checkpoint_name
from nephros.tuning.executors import EpochDone, Executor, TaskEvent, WorkerLost
from nephros.tuning.hyperband import Bracket, RungState, is_failed
from nephros.tuning.optuna_storage import StudyStorage, WriteBehindQueue
from nephros.tuning.sample import decode_params, sample_configs
from nephros.tuning.space import Dimension, apply_params
from nephros.tuning.study_state import Config, ConfigKey, StudyState, TrialStateName
from nephros.tuning.trial import Outcome, Task, matching_state

MAX_CRASHES = 5
"""Times that a worker may die in one epoch of a configuration before the configuration counts as failed."""


class StudyCallback(Protocol):
    """Receives a study's progress."""

    def on_update(self, study_state: StudyState, running: list[Task]) -> None:
        """Called when tasks have started, and when an epoch or a task is finished."""

    def on_rung_end(self, study_state: StudyState, bracket: Bracket, rung_state: RungState) -> None:
        """Called when a rung is closed."""


class _TimeLimitReached(Exception):
    """The time limit is reached; the last epoch's checkpoint is saved."""


class HyperbandScheduler:
    """Runs one study by Hyperband, in one process."""

    def __init__(
        self,
        storage: StudyStorage,
        space: tuple[Dimension, ...],
        store: CheckpointStore,
        executor: Executor,
        callback: StudyCallback,
    ) -> None:
        """Load the study from `storage`, whose lock must be held."""
        self._storage, self._space, self._store, self._executor, self._callback = (
            storage,
            space,
            store,
            executor,
            callback,
        )
        study_state = storage.load_state()
        self.settings, self._base_recipe = study_state.settings, study_state.settings.base_recipe
        self._configs = dict(study_state.configs)
        self._write_queue = WriteBehindQueue()
        self._running: dict[ConfigKey, Task] = {}
        self._crashes: dict[tuple[ConfigKey, int], int] = {}
        self._finalized_rungs: set[tuple[int, int]] = set()
        self._deadline = math.inf

    @property
    def state(self) -> StudyState:
        """The study's state now."""
        return StudyState(self.settings, self._configs)

    def run(self, max_minutes: float | None = None) -> bool:
        """Run the study to its end, or for at most `max_minutes`; return whether it is finished.

        Raises OSError when the disk is full and NephrosError when the storage stays unreachable; what is stored stays intact.
        """
        self._deadline = math.inf if max_minutes is None else time.monotonic() + 60 * max_minutes
        completed = False
        try:
            self._recover_from_checkpoints()
            with contextlib.suppress(_TimeLimitReached):
                self._run_loop()
            self._finalize_all()
            completed = True
        finally:
            self._executor.close()
            self._write_queue.close(drain=completed)
        return self.state.finished

    def _run_loop(self) -> None:
        while time.monotonic() < self._deadline and self._start_due_tasks():
            self._callback.on_update(self.state, list(self._running.values()))
            self._executor.wait(self._on_event, min(1.0, max(0.0, self._deadline - time.monotonic())))
            self._write_queue.raise_pending()

    def _recover_from_checkpoints(self) -> None:
        """Read from the checkpoints what a killed driver had not stored yet."""
        self._store.remove_temporary_files()
        checkpoints = set(self._store.names())
        for config in list(self._configs.values()):
            name = checkpoint_name(*config.key)
            if config.state != "running":
                if config.state != "complete":
                    self._store.delete(name)
            elif name in checkpoints and (task := self._make_task(config.key, 0)) is not None:
                state = matching_state(self._store.load(name), task)
                self._record_epochs(config.key, [EpochMetrics(**row) for row in state["history"]] if state else [])
        self._finalize_all(notify=False)

    def _finalize_all(self, *, notify: bool = True) -> None:
        for bracket in self.settings.planned_brackets:
            self._finalize_rungs(bracket, notify=notify)

    def _start_due_tasks(self) -> bool:
        """Close rungs, sample brackets and submit tasks while there is room; return whether any task is running."""
        while len(self._running) < self._executor.size:
            due_task = next((due_task for due_task in self._due_tasks() if due_task[0] not in self._running), None)
            if due_task is None:
                break
            task = self._make_task(*due_task)
            if task is not None:
                self._running[task.key] = task
                self._executor.submit(task)
        return bool(self._running)

    def _due_tasks(self) -> Iterator[tuple[ConfigKey, int]]:
        """Yield the configurations to train now, each with its rung's epochs, those of earlier brackets first.

        Random configurations are independent, so a later bracket fills workers that an earlier one leaves idle while it waits
        for its slowest trial; with a sampler that learns, each bracket waits for the one before.
        """
        for bracket in self.settings.planned_brackets:
            self._sample_bracket(bracket)
            last_state = self._finalize_rungs(bracket)
            if last_state.promoted is None:
                yield from (((bracket.s, index), last_state.rung.epochs) for index in last_state.pending)
                if self.settings.sampler != "random":
                    return

    def _finalize_rungs(self, bracket: Bracket, *, notify: bool = True) -> RungState:
        """Finalize each closed rung once, and return the last rung that has started."""
        rung_states = self.state.rung_states(bracket)
        for i, rung_state in enumerate(rung_states):
            if rung_state.promoted is not None and (bracket.s, i) not in self._finalized_rungs:
                self._finalize_rung(bracket, i, rung_state)
                if notify:
                    self._callback.on_rung_end(self.state, bracket, rung_state)
        return rung_states[-1]

    def _make_task(self, key: ConfigKey, stop_epoch: int) -> Task | None:
        try:
            recipe = apply_params(self._base_recipe, self._configs[key].params)
            fingerprint = f"{recipe.hash} {self.settings.data['sha256']} {self.settings.subset}"
            return Task(key, recipe.to_dict(), stop_epoch, fingerprint)
        except NephrosError as error:
            self._fail_config(key, str(error))
            return None

    def _sample_bracket(self, bracket: Bracket) -> None:
        """Sample a bracket's configurations, unless they are stored."""
        missing = [index for index in range(bracket.n_configs) if (bracket.s, index) not in self._configs]
        if not missing:
            return
        previous_trials = []
        if self.settings.sampler != "random":
            self._flush_writes()
            previous_trials = [trial for trial in self._storage.trials() if trial.user_attrs["bracket"] > bracket.s]
        sampled = sample_configs(self.settings, self._space, bracket.s, bracket.n_configs, previous_trials)
        for index in missing:
            key = (bracket.s, index)
            self._configs[key] = Config(*key, len(self._configs), decode_params(sampled[index][0], self._space))
            self._write_queue.put(partial(self._storage.add_trial, key, sampled[index]))

    def _flush_writes(self) -> None:
        self._write_queue.close(drain=True)
        self._write_queue = WriteBehindQueue()

    def _on_event(self, event: TaskEvent) -> None:
        if isinstance(event, EpochDone):
            if event.metrics.epoch < self._running[event.key].stop_epoch:
                # The last epoch comes with the outcome, so that the rung closes only once.
                self._record_epochs(event.key, [event.metrics])
            if time.monotonic() > self._deadline:
                raise _TimeLimitReached
        elif isinstance(event, WorkerLost):
            self._on_worker_lost(event.key)
        else:
            self._on_outcome(event)
        self._callback.on_update(self.state, list(self._running.values()))

    def _record_epochs(self, key: ConfigKey, history: list[EpochMetrics]) -> None:
        """Add the epochs of `history` that are new."""
        config = self._configs[key]
        for metrics in history:
            if metrics.epoch not in config.values:
                value = float(getattr(metrics, self.settings.metric))
                config = dataclasses.replace(
                    config, values={**config.values, metrics.epoch: value}, seconds=config.seconds + metrics.seconds
                )
                self._write_queue.put(partial(self._storage.report, key, metrics.epoch, value))
        self._configs[key] = config

    def _on_outcome(self, outcome: Outcome) -> None:
        key = outcome.key
        self._running.pop(key)
        self._record_epochs(key, list(outcome.history))
        if outcome.error is not None:
            self._fail_config(key, outcome.error)
            return
        config = self._configs[key]
        self._write_queue.put(partial(self._storage.set_attr, key, "seconds", config.seconds))
        if outcome.early_stopped:
            self._configs[key] = dataclasses.replace(config, early_stopped=True)
            self._write_queue.put(partial(self._storage.set_attr, key, "early_stopped", True))

    def _on_worker_lost(self, key: ConfigKey) -> None:
        self._running.pop(key)
        position = (key, self._configs[key].trained_epochs)
        self._crashes[position] = self._crashes.get(position, 0) + 1
        if self._crashes[position] >= MAX_CRASHES:
            self._fail_config(
                key,
                f"Its worker was killed {MAX_CRASHES} times in epoch {position[1] + 1}, perhaps for lack of memory.",
            )

    def _fail_config(self, key: ConfigKey, error: str) -> None:
        self._configs[key] = dataclasses.replace(self._configs[key], state="failed", error=error)
        self._write_queue.put(partial(self._storage.finish_trial, key, "failed", None, error))
        self._write_queue.put(partial(self._store.delete, checkpoint_name(*key)))

    def _finalize_rung(self, bracket: Bracket, i: int, rung_state: RungState) -> None:
        """Act on a closed rung: save the best checkpoint, and finish the configurations that aren't promoted."""
        self._finalized_rungs.add((bracket.s, i))
        assert rung_state.promoted is not None
        self._save_best_checkpoint(bracket, rung_state)
        last = i + 1 == len(bracket.rungs)
        for index in rung_state.members:
            config = self._configs[bracket.s, index]
            if config.state != "running" or index in rung_state.promoted:
                continue
            score = rung_state.scores[index]
            if score is None or is_failed(score):
                self._fail_config(config.key, f"Its {self.settings.metric} became NaN or infinite.")
            else:
                value = -score if self.settings.lower_is_better else score
                self._finish_config(config, "complete" if last else "pruned", value)

    def _save_best_checkpoint(self, bracket: Bracket, rung_state: RungState) -> None:
        """Copy the best configuration's checkpoint, if it is in this rung, before further training changes it."""
        best = self.state.best
        if best is None or best.key[0] != bracket.s or best.key[1] not in rung_state.members:
            return
        if best.epochs != min(rung_state.rung.epochs, self._configs[best.key].trained_epochs):
            return  # its best score is of an earlier rung
        name = best_checkpoint_name(*best.key, best.epochs)
        checkpoints = self._store.names()
        if name not in checkpoints:
            self._store.copy(checkpoint_name(*best.key), name)
        for other in checkpoints:
            if other.startswith("best-") and other != name:
                self._store.delete(other)

    def _finish_config(self, config: Config, state: TrialStateName, value: float) -> None:
        self._configs[config.key] = dataclasses.replace(config, state=state)
        self._write_queue.put(partial(self._storage.finish_trial, config.key, state, value))
        if state == "pruned":
            self._write_queue.put(partial(self._store.delete, checkpoint_name(*config.key)))
