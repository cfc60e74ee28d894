"""What is known of a study's configurations, and what follows from it: the rungs' standings and the best so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nephros.recipe import Recipe
from nephros.tuning.hyperband import PENDING, Bracket, Pending, Rung, Standing, failed, standings
from nephros.tuning.settings import Settings

Key = tuple[int, int]
"""(s of the bracket, index within it)."""
State = Literal["running", "pruned", "complete", "failed"]


@dataclass(frozen=True)
class Config:
    """One configuration: one trial of the Optuna study."""

    bracket: int
    index: int
    """Within the bracket, from 0."""
    number: int
    """Optuna's trial number."""
    params: dict[str, Any]
    """Dotted field -> value, of the dimensions that are active."""
    values: dict[int, float] = field(default_factory=dict)
    """Epochs trained -> the study's metric on (the cut) validation, one entry an epoch."""
    state: State = "running"
    """pruned: eliminated; complete: trained to the bracket's end; failed: diverged, out of memory or impossible."""
    error: str | None = None
    """Why it failed."""
    ended: bool = False
    """Whether its recipe's early stop ended it: it trains no further and keeps its score."""
    seconds: float = 0.0
    """Spent training, validation not counted."""

    @property
    def key(self) -> Key:
        """The pair that names it in every run of the study."""
        return self.bracket, self.index

    @property
    def epochs(self) -> int:
        """Epochs trained so far."""
        return max(self.values, default=0)


@dataclass(frozen=True)
class Best:
    """The configuration with the best score at the end of any rung: what Algorithm 1 returns."""

    key: Key
    epochs: int
    """At which it had that score."""
    value: float
    """The study's metric."""


@dataclass(frozen=True)
class Records:
    """A study as it stands; a pure view of what is stored."""

    settings: Settings
    configs: Mapping[Key, Config]
    judged: dict[str, Any] | None = None
    """What the best configuration came to on all of validation, once the study is over: Evaluation.metrics."""

    def score(self, config: Config, epochs: int) -> float | Pending | None:
        """Return what ranks a configuration after `epochs`, higher is better: PENDING, or None when it failed before.

        It is the metric of the weights that the recipe keeps: the last epoch's, or with `checkpoint: best` the best.
        """
        if config.epochs < epochs and not config.ended:
            return None if config.state == "failed" else PENDING
        seen = {epoch: value for epoch, value in config.values.items() if epoch <= epochs}
        sign = -1.0 if self.settings.lower_is_better else 1.0
        if config.params.get("checkpoint", self.settings.recipe["checkpoint"]) == "best":
            return max((sign * value for value in seen.values() if not math.isnan(value)), default=math.nan)
        return sign * seen[max(seen)]

    def standings(self, bracket: Bracket) -> list[Standing]:
        """Return the bracket's rungs up to and including the first open one."""

        def score(index: int, rung: Rung) -> float | Pending | None:
            config = self.configs.get((bracket.s, index))
            return PENDING if config is None else self.score(config, rung.epochs)

        return standings(bracket, score)

    @property
    def best(self) -> Best | None:
        """The best score at the end of a closed rung so far; of equal ones the earlier bracket's, rung's and index's."""
        sign = -1.0 if self.settings.lower_is_better else 1.0
        found, top = None, -math.inf
        for bracket in self.settings.plan:
            for standing in self.standings(bracket):
                if standing.promoted is None:
                    continue
                for index in standing.members:
                    score = standing.scores[index]
                    if not failed(score) and score is not None and score > top:
                        top = score
                        epochs = min(standing.rung.epochs, self.configs[bracket.s, index].epochs)
                        found = Best((bracket.s, index), epochs, sign * score)
        return found

    @property
    def over(self) -> bool:
        """Whether every bracket has come to its end."""
        return all(self.closed(bracket) for bracket in self.settings.plan)

    @property
    def settled(self) -> bool:
        """Whether what follows from the scores has been stored: every configuration has its fate."""
        return all(config.state != "running" for config in self.configs.values())

    def closed(self, bracket: Bracket) -> bool:
        """Return whether the bracket's last rung, or an earlier one that nobody survived, is closed."""
        last = self.standings(bracket)[-1]
        return last.promoted is not None

    @property
    def epochs(self) -> int:
        """Epochs trained so far, over all configurations."""
        return sum(config.epochs for config in self.configs.values())

    @property
    def planned_epochs(self) -> int:
        """Epochs of the whole plan, where none fails."""
        return sum(bracket.epochs for bracket in self.settings.plan)

    def recipe(self, key: Key) -> Recipe:
        """Return a configuration's recipe; UserError when its values can't be combined."""
        from nephros.tuning.space import laid_over

        return laid_over(self.settings.base, self.configs[key].params)
