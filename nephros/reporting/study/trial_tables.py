"""The tables of a study's report: the best configuration's values, all configurations, and what failed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from nephros.reporting.study.formatting import WORDS, named, plain, shown, stopped
from nephros.reporting.study.view import Fate, View
from nephros.reporting.templates import NONE
from nephros.tuning.study_state import Config


@dataclass(frozen=True)
class Row:
    """A configuration in the table of all."""

    name: str
    rank: int | None
    """None without a score at the end of a closed rung."""
    fate: Fate
    state: str
    epochs: int
    scores: list[str]
    """At each of View.rungs; empty where it has none."""
    values: list[str]
    """Of each searched field; a dash where it does not take part."""


def rows(view: View) -> list[Row]:
    """Return all configurations that have been drawn, the best first and those without a rank last."""
    ranks = view.ranks()
    endings = {(ending.key, ending.epochs): ending.value for ending in view.endings}
    found = []
    for config in sorted(view.configs, key=lambda config: ranks.get(config.key, len(ranks) + 1)):
        scores = [endings.get((config.key, rung)) for rung in view.rungs]
        found.append(
            Row(
                named(config.key),
                ranks.get(config.key),
                view.fates[config.key],
                _state(view, config),
                config.epochs,
                ["" if value is None else shown(view, value, 2) for value in scores],
                [
                    plain(config.params[dimension.key]) if dimension.key in config.params else NONE
                    for dimension in view.space
                ],
            )
        )
    return found


def _state(view: View, config: Config) -> str:
    fate = view.fates[config.key]
    if config.key in view.failed:
        return ("best, " if fate == "best" else "") + (f"failed after {config.epochs}" if config.epochs else "failed")
    if fate == "running" and not config.epochs:
        return "waiting"
    return ("best" if fate == "best" else WORDS[fate]) + (", stopped early" if stopped(config) else "")


def best_values(view: View) -> list[tuple[str, str, str, bool]]:
    """Return (field, the best configuration's value, the recipe's own, whether it was searched and is active)."""
    if view.best is None:
        return []
    params = view.records.configs[view.best.key].params
    found = []
    for dimension in view.space:
        own = field(view.settings.recipe, dimension.key)
        active = dimension.key in params
        found.append((dimension.key, plain(params.get(dimension.key, own)), plain(own), active))
    return found


def field(recipe: dict[str, Any], key: str) -> Any:
    """Return the value of a dotted field of a recipe written as nested values."""
    value: Any = recipe
    for part in key.split("."):
        value = value[part]
    return value


def failures(view: View) -> list[tuple[str, str, str]]:
    """Return (reason, how many, their names) of the configurations that failed, the commonest first."""
    failing = [config for config in view.configs if config.key in view.failed]
    reasons = Counter(_reason(config) for config in failing)
    return [
        (reason, str(n), ", ".join(named(config.key) for config in failing if _reason(config) == reason))
        for reason, n in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    ]


def _reason(config: Config) -> str:
    return config.error or "its metric was not a number"
