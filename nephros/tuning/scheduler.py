"""The loop of a study: decide what is due from what is known, have it done, write it down, until nothing is left.

Everything is decided from the records alone (hyperband.standings), so it does not matter who did a task, in what order,
or how often the driver was killed in between.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Protocol

from nephros.errors import UserError
from nephros.training.history import Epoch
from nephros.tuning.checkpoint_store import Store, best_name, checkpoint_name
from nephros.tuning.executors import EpochDone, Event, Lost, Pool
from nephros.tuning.hyperband import Bracket, Standing, failed
from nephros.tuning.optuna_storage import Storage
from nephros.tuning.sample import draw, plain
from nephros.tuning.space import Dimension, laid_over
from nephros.tuning.study_state import Config, Key, Records, State
from nephros.tuning.trial import Outcome, Task, own_state
from nephros.tuning.write_behind import Journal

DEATHS = 5
"""Times that a worker may die in one epoch of one configuration before it counts as failed."""


class Watcher(Protocol):
    """Whoever shows how a study goes."""

    def changed(self, records: Records, running: list[Task]) -> None:
        """Hear that an epoch or a task is over, or that tasks began."""

    def closed(self, records: Records, bracket: Bracket, standing: Standing) -> None:
        """Hear that a rung is over."""


class _OutOfTime(Exception):
    """The minutes are over; the last epoch is safe."""


class Driver:
    """One study being run by one process."""

    def __init__(
        self, storage: Storage, space: tuple[Dimension, ...], store: Store, pool: Pool, watcher: Watcher
    ) -> None:
        """Take a study as it is stored; the storage's lease must be held."""
        self._storage, self._space, self._store, self._pool, self._watcher = storage, space, store, pool, watcher
        found = storage.records()
        self.settings, self._base = found.settings, found.settings.base
        self._configs = dict(found.configs)
        self._journal = Journal()
        self._running: dict[Key, Task] = {}
        self._deaths: dict[tuple[Key, int], int] = {}
        self._settled: set[tuple[int, int]] = set()
        self._deadline = math.inf

    @property
    def records(self) -> Records:
        """The study as it stands now."""
        return Records(self.settings, self._configs)

    def run(self, minutes: float | None = None) -> bool:
        """Go on to the end, or for so many minutes; return whether the study is over.

        Raises OSError for a full disk and UserError for a storage that stays away; nothing stored is harmed.
        """
        self._deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        finish = False
        try:
            self._recall()
            with contextlib.suppress(_OutOfTime):
                self._train()
            self._close_all()
            finish = True
        finally:
            self._pool.close()
            self._journal.close(finish=finish)
        return self.records.over

    def _train(self) -> None:
        while time.monotonic() < self._deadline and self._start_due():
            self._watcher.changed(self.records, list(self._running.values()))
            self._pool.wait(self._hear, min(1.0, max(0.0, self._deadline - time.monotonic())))
            self._journal.check()

    def _recall(self) -> None:
        """Take from the checkpoints what a driver that was killed had not written down."""
        self._store.clean()
        kept = set(self._store.names())
        for config in list(self._configs.values()):
            name = checkpoint_name(*config.key)
            if config.state != "running":
                if config.state != "complete":
                    self._store.delete(name)
            elif name in kept and (task := self._task(config.key, 0)) is not None:
                state = own_state(self._store.load(name), task)
                self._learn(config.key, [Epoch(**row) for row in state["history"]] if state else [])
        self._close_all(announce=False)

    def _close_all(self, *, announce: bool = True) -> None:
        for bracket in self.settings.plan:
            self._close_rungs(bracket, announce=announce)

    def _start_due(self) -> bool:
        """Close rungs, open brackets and start tasks while there is room; return whether any task is out."""
        while len(self._running) < self._pool.size:
            due = next((due for due in self._due() if due[0] not in self._running), None)
            if due is None:
                break
            task = self._task(*due)
            if task is not None:
                self._running[task.key] = task
                self._pool.start(task)
        return bool(self._running)

    def _due(self) -> Iterator[tuple[Key, int]]:
        """Yield the configurations that may be trained now, and to how many epochs; those of earlier brackets first.

        Brackets of random configurations know nothing of each other, so a later one fills what an earlier one, waiting
        for its slowest, leaves idle; those of a sampler that learns wait for the one before.
        """
        for bracket in self.settings.plan:
            self._open(bracket)
            last = self._close_rungs(bracket)
            if last.promoted is None:
                yield from (((bracket.s, index), last.rung.epochs) for index in last.pending)
                if self.settings.sampler != "random":
                    return

    def _close_rungs(self, bracket: Bracket, *, announce: bool = True) -> Standing:
        """Settle the rungs that are over, each once, and return the last that has begun."""
        standings = self.records.standings(bracket)
        for i, standing in enumerate(standings):
            if standing.promoted is not None and (bracket.s, i) not in self._settled:
                self._settle(bracket, i, standing)
                if announce:
                    self._watcher.closed(self.records, bracket, standing)
        return standings[-1]

    def _task(self, key: Key, until: int) -> Task | None:
        try:
            recipe = laid_over(self._base, self._configs[key].params)
            mark = f"{recipe.hash} {self.settings.data['sha256']} {self.settings.subset}"
            return Task(key, recipe.to_dict(), until, mark)
        except UserError as error:
            self._fail(key, str(error))
            return None

    def _open(self, bracket: Bracket) -> None:
        """Draw a bracket's configurations, unless that has been done."""
        missing = [index for index in range(bracket.configs) if (bracket.s, index) not in self._configs]
        if not missing:
            return
        earlier = []
        if self.settings.sampler != "random":
            self._flush()
            earlier = [trial for trial in self._storage.trials() if trial.user_attrs["bracket"] > bracket.s]
        drawn = draw(self.settings, self._space, bracket.s, bracket.configs, earlier)
        for index in missing:
            key = (bracket.s, index)
            self._configs[key] = Config(*key, len(self._configs), plain(drawn[index][0], self._space))
            self._journal.put(partial(self._storage.add, key, drawn[index]))

    def _flush(self) -> None:
        self._journal.close(finish=True)
        self._journal = Journal()

    def _hear(self, event: Event) -> None:
        if isinstance(event, EpochDone):
            if event.row.epoch < self._running[event.key].until:
                self._learn(event.key, [event.row])  # the last one comes with the outcome, so that the rung closes once
            if time.monotonic() > self._deadline:
                raise _OutOfTime
        elif isinstance(event, Lost):
            self._lost(event.key)
        else:
            self._done(event)
        self._watcher.changed(self.records, list(self._running.values()))

    def _learn(self, key: Key, rows: list[Epoch]) -> None:
        """Take in the epochs that are new."""
        config = self._configs[key]
        for row in rows:
            if row.epoch not in config.values:
                value = float(getattr(row, self.settings.metric))
                config = dataclasses.replace(
                    config, values={**config.values, row.epoch: value}, seconds=config.seconds + row.seconds
                )
                self._journal.put(partial(self._storage.report, key, row.epoch, value))
        self._configs[key] = config

    def _done(self, outcome: Outcome) -> None:
        key = outcome.key
        self._running.pop(key)
        self._learn(key, list(outcome.rows))
        if outcome.error is not None:
            self._fail(key, outcome.error)
            return
        config = self._configs[key]
        self._journal.put(partial(self._storage.note, key, "seconds", config.seconds))
        if outcome.ended:
            self._configs[key] = dataclasses.replace(config, ended=True)
            self._journal.put(partial(self._storage.note, key, "ended", True))

    def _lost(self, key: Key) -> None:
        self._running.pop(key)
        place = (key, self._configs[key].epochs)
        self._deaths[place] = self._deaths.get(place, 0) + 1
        if self._deaths[place] >= DEATHS:
            self._fail(
                key, f"Its worker was killed {DEATHS} times in epoch {place[1] + 1}, perhaps for lack of memory."
            )

    def _fail(self, key: Key, error: str) -> None:
        self._configs[key] = dataclasses.replace(self._configs[key], state="failed", error=error)
        self._journal.put(partial(self._storage.finish, key, "failed", None, error))
        self._journal.put(partial(self._store.delete, checkpoint_name(*key)))

    def _settle(self, bracket: Bracket, i: int, standing: Standing) -> None:
        """Act on a rung that is over: keep the best, and let the eliminated go."""
        self._settled.add((bracket.s, i))
        assert standing.promoted is not None
        self._keep_best(bracket, standing)
        last = i + 1 == len(bracket.rungs)
        for index in standing.members:
            config = self._configs[bracket.s, index]
            if config.state != "running" or index in standing.promoted:
                continue
            score = standing.scores[index]
            if score is None or failed(score):
                self._fail(config.key, f"Its {self.settings.metric} is not a number.")
            else:
                value = -score if self.settings.lower_is_better else score
                self._finish(config, "complete" if last else "pruned", value)

    def _keep_best(self, bracket: Bracket, standing: Standing) -> None:
        """Copy the best configuration's checkpoint, if it is in this rung, before that moves on."""
        best = self.records.best
        if best is None or best.key[0] != bracket.s or best.key[1] not in standing.members:
            return
        if best.epochs != min(standing.rung.epochs, self._configs[best.key].epochs):
            return  # it was best in an earlier rung
        name = best_name(*best.key, best.epochs)
        kept = self._store.names()
        if name not in kept:
            self._store.copy(checkpoint_name(*best.key), name)
        for other in kept:
            if other.startswith("best-") and other != name:
                self._store.delete(other)

    def _finish(self, config: Config, state: State, value: float) -> None:
        self._configs[config.key] = dataclasses.replace(config, state=state)
        self._journal.put(partial(self._storage.finish, config.key, state, value))
        if state == "pruned":
            self._journal.put(partial(self._store.delete, checkpoint_name(*config.key)))
