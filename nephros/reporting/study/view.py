"""A tuning study as its report sees it: every configuration's way through the rungs, what became of it, and its rank."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from nephros.tuning.hyperband import Bracket, Rung, Standing, failed
from nephros.tuning.space import parse
from nephros.tuning.study_state import Config, Key, Records

Fate = Literal["best", "finished", "running", "eliminated", "failed"]
"""best of the study so far; trained to its bracket's end; still in the running; not promoted; failed."""


@dataclass(frozen=True)
class Ending:
    """A configuration at the end of a rung."""

    key: Key
    epochs: int
    """The rung's, whether or not the configuration's own early stop came first."""
    spent: int
    """Epochs that it trained in this rung."""
    value: float | None
    """The study's metric there; None when it failed or is not through."""
    closed: bool
    """Whether all of the rung are through, so that the value counts."""


class View:
    """What the figures and tables of a report are made from; a pure function of the records."""

    def __init__(self, records: Records) -> None:
        """Work out every configuration's way."""
        self.records, self.settings = records, records.settings
        self.space = parse(self.settings.space, self.settings.base, f"The space of study {self.settings.name}")
        self.brackets: list[tuple[Bracket, list[Standing]]] = [
            (bracket, records.standings(bracket)) for bracket in self.settings.plan
        ]
        self.best = records.best
        self.title = str(self.settings.data["title"])
        self.endings = [
            self._ending((bracket.s, index), i, standing)
            for bracket, found in self.brackets
            for i, standing in enumerate(found)
            for index in standing.members
        ]
        self.failed: list[Key] = []
        """Configurations that failed; the best so far may be among them."""
        self.fates: dict[Key, Fate] = {}
        for bracket, found in self.brackets:
            for index in range(bracket.configs):
                if (bracket.s, index) in records.configs:
                    self.fates[bracket.s, index] = self._fate(bracket, index, found)

    @property
    def configs(self) -> list[Config]:
        """The configurations that have been drawn, in the order of their brackets and indices."""
        return [self.records.configs[key] for key in self.fates]

    @property
    def rungs(self) -> list[int]:
        """The epochs at which any bracket has a rung, ascending."""
        return sorted({rung.epochs for bracket, _ in self.brackets for rung in bracket.rungs})

    def value(self, score: float | None) -> float | None:
        """Return the study's metric for a score of the standings, of which higher is better; None for a failed one."""
        if failed(score) or score is None or math.isinf(score):
            return None
        return -score if self.settings.lower_is_better else score

    def better(self, one: float, other: float) -> bool:
        """Return whether one value of the metric is better than another."""
        return one < other if self.settings.lower_is_better else one > other

    def ranks(self) -> dict[Key, int]:
        """Return the place (from 1) of every configuration with a score at the end of a closed rung, by its best such score.

        So the first is the study's best; of equal ones the earlier bracket's, rung's and index's is.
        """
        tops: dict[Key, tuple[float, int]] = {}
        for place, ending in enumerate(self.endings):
            if ending.closed and ending.value is not None:
                score = ending.value if self.settings.lower_is_better else -ending.value
                tops[ending.key] = min(tops.get(ending.key, (math.inf, 0)), (score, place))
        return {key: rank for rank, key in enumerate(sorted(tops, key=lambda key: tops[key]), 1)}

    def last_value(self, key: Key) -> float | None:
        """Return a configuration's metric at the end of the last rung that it is through with; None without one."""
        found = [ending.value for ending in self.endings if ending.key == key and ending.value is not None]
        return found[-1] if found else None

    def _ending(self, key: Key, i: int, standing: Standing) -> Ending:
        bracket = next(bracket for bracket, _ in self.brackets if bracket.s == key[0])
        config = self.records.configs.get(key)
        before = bracket.rungs[i - 1].epochs if i else 0
        trained = 0 if config is None else min(standing.rung.epochs, config.epochs)
        value = self.value(standing.scores.get(key[1]))
        return Ending(key, standing.rung.epochs, max(0, trained - before), value, standing.promoted is not None)

    def _fate(self, bracket: Bracket, index: int, found: list[Standing]) -> Fate:
        last = next(standing for standing in reversed(found) if index in standing.members)
        lost = index in last.scores and failed(last.scores[index])
        if lost:
            self.failed.append((bracket.s, index))
        if self.best is not None and self.best.key == (bracket.s, index):
            return "best"
        if lost:
            return "failed"
        if index not in last.scores:
            return "running"
        if last.rung == bracket.rungs[-1]:
            return "finished"
        return "running" if last.promoted is None else "eliminated"


def planned(bracket: Bracket, found: list[Standing]) -> tuple[Rung, ...]:
    """Return the rungs of a bracket that nobody has reached yet; none when nobody survived to reach them."""
    return bracket.rungs[len(found) :] if found[-1].promoted is None else ()
