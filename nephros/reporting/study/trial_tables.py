"""The tables of a study's report: the best configuration, all configurations, and failures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from nephros.escaping import without_folders
from nephros.reporting.study.formatting import (
    STATUS_LABELS,
    config_name,
    format_metric,
    format_value,
    was_early_stopped,
)
from nephros.reporting.study.view import StudyView, TrialStatus
from nephros.text_tables import EN_DASH
from nephros.tuning.study_state import Config


@dataclass(frozen=True)
class ConfigRow:
    """A row of the table of all configurations."""

    name: str
    rank: int | None
    """None without a score at the end of a closed rung."""
    status: TrialStatus
    status_text: str
    epochs: int
    scores: list[str]
    """Score at each of StudyView.rungs; empty where there is none."""
    values: list[str]
    """Value of each searched field; a dash where the field is inactive."""


def config_rows(view: StudyView) -> list[ConfigRow]:
    """Return the rows of all sampled configurations, the best first and those without a rank last."""
    ranks = view.ranks()
    values_by_rung = {(rung_result.key, rung_result.epochs): rung_result.value for rung_result in view.rung_results}
    table_rows = []
    for config in sorted(view.configs, key=lambda config: ranks.get(config.key, len(ranks) + 1)):
        scores = [values_by_rung.get((config.key, rung)) for rung in view.rungs]
        table_rows.append(
            ConfigRow(
                config_name(config.key),
                ranks.get(config.key),
                view.statuses[config.key],
                _status_text(view, config),
                config.trained_epochs,
                ["" if value is None else format_metric(view, value, 2) for value in scores],
                [
                    format_value(config.params[dimension.key]) if dimension.key in config.params else EN_DASH
                    for dimension in view.space
                ],
            )
        )
    return table_rows


def _status_text(view: StudyView, config: Config) -> str:
    status = view.statuses[config.key]
    if config.key in view.failed:
        return ("best, " if status == "best" else "") + (
            f"failed after {config.trained_epochs}" if config.trained_epochs else "failed"
        )
    if status == "running" and not config.trained_epochs:
        return "waiting"
    return ("best" if status == "best" else STATUS_LABELS[status]) + (
        ", stopped early" if was_early_stopped(config) else ""
    )


def best_values(view: StudyView) -> list[tuple[str, str, str, bool]]:
    """Return (field, the best configuration's value, the base recipe's, whether the field is active) of each searched field."""
    if view.best is None:
        return []
    params = view.study_state.configs[view.best.key].params
    value_rows = []
    for dimension in view.space:
        recipe_default = recipe_value(view.settings.recipe, dimension.key)
        active = dimension.key in params
        value_rows.append(
            (
                dimension.key,
                format_value(params.get(dimension.key, recipe_default)),
                format_value(recipe_default),
                active,
            )
        )
    return value_rows


def recipe_value(recipe: dict[str, Any], key: str) -> Any:
    """Return the value of a dotted field of a recipe written as nested values."""
    value: Any = recipe
    for part in key.split("."):
        value = value[part]
    return value


def failure_rows(view: StudyView) -> list[tuple[str, str, str]]:
    """Return (reason, count, names) of the configurations that failed, the most frequent reason first."""
    failed_configs = [config for config in view.configs if config.key in view.failed]
    reasons = Counter(_failure_reason(config) for config in failed_configs)
    return [
        (
            reason,
            str(n),
            ", ".join(config_name(config.key) for config in failed_configs if _failure_reason(config) == reason),
        )
        for reason, n in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    ]


def _failure_reason(config: Config) -> str:
    return without_folders(config.error or "") or "its metric became NaN or infinite"
