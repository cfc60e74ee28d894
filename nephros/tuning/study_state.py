"""The state of a study: what is known of its configurations, and the rungs and the best so far that follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nephros.evaluation.metrics import Metrics
from nephros.reading import MalformedContent
from nephros.recipe import Recipe
from nephros.tuning.hyperband import PENDING, Bracket, Pending, Rung, RungState, is_failed, rung_states
from nephros.tuning.settings import StudySettings
from nephros.tuning.space import Dimension, apply_params

ConfigKey = tuple[int, int]
"""(s of the bracket, index within it)."""
TrialStateName = Literal["running", "pruned", "complete", "failed"]


@dataclass(frozen=True)
class Config:
    """One configuration, which is one trial of the Optuna study."""

    bracket: int
    index: int
    """Within the bracket, from 0."""
    number: int
    """Optuna's trial number."""
    params: dict[str, Any]
    """Dotted field -> value, of the active dimensions."""
    values: dict[int, float] = field(default_factory=dict)
    """Epochs trained -> the study's metric on the validation images that trials see, one entry per epoch."""
    state: TrialStateName = "running"
    """pruned: not promoted; complete: trained to its bracket's end; failed: diverged, out of memory or impossible."""
    error: str | None = None
    """Why it failed."""
    early_stopped: bool = False
    """Whether the recipe's early stopping ended it: it trains no further and keeps its score."""
    seconds: float = 0.0
    """Training time, validation not included."""

    @property
    def key(self) -> ConfigKey:
        """The pair that identifies the configuration in every run of the study."""
        return self.bracket, self.index

    @property
    def trained_epochs(self) -> int:
        """Epochs trained so far."""
        return max(self.values, default=0)


def check_config(config: Config, settings: StudySettings, space: tuple[Dimension, ...]) -> None:
    """Raise MalformedContent for a configuration that the study can't have."""
    name = f"trial {config.number}"
    n_configs = {bracket.s: bracket.n_configs for bracket in settings.planned_brackets}
    if not 0 <= config.index < n_configs.get(config.bracket, 0):
        raise MalformedContent(
            f"{name} is configuration {config.index} of bracket s={config.bracket}, which the study lacks"
        )
    if list(config.values) != list(range(1, len(config.values) + 1)) or len(config.values) > settings.max_epochs:
        raise MalformedContent(f"{name} has scores of other epochs than 1 to at most {settings.max_epochs}")
    highest = math.inf if settings.lower_is_better else 1.0
    if not all(math.isnan(value) or 0 <= value <= highest for value in config.values.values()):
        raise MalformedContent(f"{name} has a {settings.metric} that is none")
    active: dict[str, Any] = {}
    for dimension in space:
        if dimension.is_active(config.params) and dimension.key in config.params:
            active[dimension.key] = value = config.params[dimension.key]
            if not dimension.allows(value):
                raise MalformedContent(f"{name} has the {dimension.key} {value}, which is not in the space")
        elif dimension.is_active(config.params):
            raise MalformedContent(f"{name} has no {dimension.key}")
    if set(active) != set(config.params):
        raise MalformedContent(f"{name} has values of fields that it does not search")


@dataclass(frozen=True)
class BestConfig:
    """The configuration with the best score at the end of any rung: what Algorithm 1 returns."""

    key: ConfigKey
    epochs: int
    """Epochs after which it had that score."""
    value: float
    """The study's metric after these epochs."""


@dataclass(frozen=True)
class StudyState:
    """A study at one moment, as it is stored."""

    settings: StudySettings
    configs: Mapping[ConfigKey, Config]
    best_metrics: Metrics | None = None
    """The best configuration's metrics on the whole validation split, once the study is finished."""

    def score(self, config: Config, epochs: int) -> float | Pending | None:
        """Return a configuration's score after `epochs`, higher is better; PENDING, or None when it failed before.

        The score is the metric of the weights that the recipe keeps: the last epoch's, or with `checkpoint: best` the best.
        """
        if config.trained_epochs < epochs and not config.early_stopped:
            return None if config.state == "failed" else PENDING
        values_so_far = {epoch: value for epoch, value in config.values.items() if epoch <= epochs}
        sign = -1.0 if self.settings.lower_is_better else 1.0
        if config.params.get("checkpoint", self.settings.recipe["checkpoint"]) == "best":
            return max((sign * value for value in values_so_far.values() if not math.isnan(value)), default=math.nan)
        return sign * values_so_far[max(values_so_far)]

    def rung_states(self, bracket: Bracket) -> list[RungState]:
        """Return the bracket's rungs up to and including the first open one."""

        def score(index: int, rung: Rung) -> float | Pending | None:
            config = self.configs.get((bracket.s, index))
            return PENDING if config is None else self.score(config, rung.epochs)

        return rung_states(bracket, score)

    @property
    def best(self) -> BestConfig | None:
        """The best score at the end of a closed rung so far; the first of equal ones, in order of bracket, rung and index."""
        sign = -1.0 if self.settings.lower_is_better else 1.0
        best, best_score = None, -math.inf
        for bracket in self.settings.planned_brackets:
            for rung_state in self.rung_states(bracket):
                if rung_state.promoted is None:
                    continue
                for index in rung_state.members:
                    score = rung_state.scores[index]
                    if not is_failed(score) and score is not None and score > best_score:
                        best_score = score
                        epochs = min(rung_state.rung.epochs, self.configs[bracket.s, index].trained_epochs)
                        best = BestConfig((bracket.s, index), epochs, sign * score)
        return best

    @property
    def finished(self) -> bool:
        """Whether every bracket is finished."""
        return all(self.bracket_finished(bracket) for bracket in self.settings.planned_brackets)

    @property
    def finalized(self) -> bool:
        """Whether every configuration's final state (pruned, complete or failed) is stored."""
        return all(config.state != "running" for config in self.configs.values())

    def bracket_finished(self, bracket: Bracket) -> bool:
        """Return whether the bracket's last rung is closed, or an earlier one with no survivors."""
        last = self.rung_states(bracket)[-1]
        return last.promoted is not None

    @property
    def trained_epochs(self) -> int:
        """Epochs trained so far, summed over all configurations."""
        return sum(config.trained_epochs for config in self.configs.values())

    @property
    def planned_epochs(self) -> int:
        """Epochs of the whole study if no configuration fails."""
        return sum(bracket.total_epochs for bracket in self.settings.planned_brackets)

    def recipe(self, key: ConfigKey) -> Recipe:
        """Return a configuration's recipe; NephrosError when its values can't be combined."""
        return apply_params(self.settings.base_recipe, self.configs[key].params)
