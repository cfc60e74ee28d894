"""A tuning study as its report shows it: each configuration's results in the rungs, its status and its rank."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from nephros.tuning.hyperband import Bracket, Rung, RungState, is_failed
from nephros.tuning.space import parse_space
from nephros.tuning.study_state import Config, ConfigKey, StudyState

TrialStatus = Literal["best", "complete", "running", "pruned", "failed"]
"""The best of the study so far; trained to its bracket's end; still running; not promoted; failed."""


@dataclass(frozen=True)
class RungResult:
    """A configuration at the end of a rung."""

    key: ConfigKey
    epochs: int
    """The rung's epochs, even where early stopping ended the configuration sooner."""
    epochs_spent: int
    """Epochs trained within this rung."""
    value: float | None
    """The study's metric there; None when the configuration failed or hasn't finished the rung."""
    rung_closed: bool
    """Whether all members have finished the rung, so that the value counts."""


class StudyView:
    """The basis of a report's figures and tables; a pure function of the study's state."""

    def __init__(self, study_state: StudyState) -> None:
        """Derive each configuration's results, status and rank."""
        self.study_state, self.settings = study_state, study_state.settings
        self.space = parse_space(
            self.settings.space, self.settings.base_recipe, f"The space of study {self.settings.name}"
        )
        self.brackets: list[tuple[Bracket, list[RungState]]] = [
            (bracket, study_state.rung_states(bracket)) for bracket in self.settings.planned_brackets
        ]
        self.best = study_state.best
        self.data_title = str(self.settings.data["title"])
        self.rung_results = [
            self._rung_result((bracket.s, index), i, rung_state)
            for bracket, rung_states in self.brackets
            for i, rung_state in enumerate(rung_states)
            for index in rung_state.members
        ]
        self.failed: list[ConfigKey] = []
        """Configurations that failed; the best so far may be among them."""
        self.statuses: dict[ConfigKey, TrialStatus] = {}
        for bracket, rung_states in self.brackets:
            for index in range(bracket.n_configs):
                if (bracket.s, index) in study_state.configs:
                    self.statuses[bracket.s, index] = self._status(bracket, index, rung_states)

    @property
    def configs(self) -> list[Config]:
        """The configurations sampled so far, ordered by bracket and index."""
        return [self.study_state.configs[key] for key in self.statuses]

    @property
    def rungs(self) -> list[int]:
        """The epochs at which any bracket has a rung, ascending."""
        return sorted({rung.epochs for bracket, _ in self.brackets for rung in bracket.rungs})

    def metric_value(self, score: float | None) -> float | None:
        """Return the study's metric for a score (higher is better); None for a failed one."""
        if is_failed(score) or score is None or math.isinf(score):
            return None
        return -score if self.settings.lower_is_better else score

    def is_better(self, value: float, other: float) -> bool:
        """Return whether one value of the metric is better than another."""
        return value < other if self.settings.lower_is_better else value > other

    def ranks(self) -> dict[ConfigKey, int]:
        """Return the rank (from 1) of each configuration with a score at the end of a closed rung, by its best such score.

        Rank 1 is the study's best; equal scores rank in order of bracket, rung and index.
        """
        best_scores: dict[ConfigKey, tuple[float, int]] = {}
        for position, rung_result in enumerate(self.rung_results):
            if rung_result.rung_closed and rung_result.value is not None:
                score = rung_result.value if self.settings.lower_is_better else -rung_result.value
                best_scores[rung_result.key] = min(best_scores.get(rung_result.key, (math.inf, 0)), (score, position))
        return {key: rank for rank, key in enumerate(sorted(best_scores, key=lambda key: best_scores[key]), 1)}

    def last_value(self, key: ConfigKey) -> float | None:
        """Return a configuration's metric at the end of the last rung that it has finished; None without one."""
        values = [
            rung_result.value
            for rung_result in self.rung_results
            if rung_result.key == key and rung_result.value is not None
        ]
        return values[-1] if values else None

    def _rung_result(self, key: ConfigKey, i: int, rung_state: RungState) -> RungResult:
        bracket = next(bracket for bracket, _ in self.brackets if bracket.s == key[0])
        config = self.study_state.configs.get(key)
        before = bracket.rungs[i - 1].epochs if i else 0
        trained = 0 if config is None else min(rung_state.rung.epochs, config.trained_epochs)
        value = self.metric_value(rung_state.scores.get(key[1]))
        return RungResult(key, rung_state.rung.epochs, max(0, trained - before), value, rung_state.promoted is not None)

    def _status(self, bracket: Bracket, index: int, rung_states: list[RungState]) -> TrialStatus:
        last_state = next(rung_state for rung_state in reversed(rung_states) if index in rung_state.members)
        has_failed = index in last_state.scores and is_failed(last_state.scores[index])
        if has_failed:
            self.failed.append((bracket.s, index))
        if self.best is not None and self.best.key == (bracket.s, index):
            return "best"
        if has_failed:
            return "failed"
        if index not in last_state.scores:
            return "running"
        if last_state.rung == bracket.rungs[-1]:
            return "complete"
        return "running" if last_state.promoted is None else "pruned"


def unreached_rungs(bracket: Bracket, rung_states: list[RungState]) -> tuple[Rung, ...]:
    """Return the rungs of a bracket that no configuration has reached yet; none when none survived to reach them."""
    return bracket.rungs[len(rung_states) :] if rung_states[-1].promoted is None else ()
