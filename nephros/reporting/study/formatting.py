"""How a study's numbers are written, and how its configurations look by what became of them."""

from __future__ import annotations

import json
from typing import Any

from nephros.reporting.plots.style import LIGHT_COLORS
from nephros.reporting.study.view import StudyView, TrialStatus
from nephros.tuning.study_state import Config, ConfigKey

STATUS_COLORS: dict[TrialStatus, str] = {
    "best": LIGHT_COLORS["test"],
    "finished": LIGHT_COLORS["val"],
    "running": LIGHT_COLORS["val"],
    "eliminated": LIGHT_COLORS["train"],
    "failed": LIGHT_COLORS["train"],
}
"""Fate -> colour. A study never reads the test split, so its orange is free for the best."""

STATUS_LABELS: dict[TrialStatus, str] = {
    "best": "best of the study",
    "finished": "trained to the end",
    "running": "still in the running",
    "eliminated": "eliminated",
    "failed": "failed",
}

METRIC_NAMES = {"val_accuracy": "accuracy", "val_loss": "loss", "val_macro_f1": "macro F1", "val_auc": "AUC"}
"""The study's metric -> its name in prose."""


def metric_label(view: StudyView) -> str:
    """Return the metric's name in prose, such as ``validation accuracy``."""
    return f"validation {METRIC_NAMES[view.settings.metric]}"


def format_metric(view: StudyView, value: float | None, digits: int = 1) -> str:
    """Return a value of the study's metric: accuracy in percent with so many decimals, others with two more."""
    if value is None:
        return "\N{EN DASH}"
    return f"{100 * value:.{digits}f} %" if view.settings.metric == "val_accuracy" else f"{value:.{digits + 2}f}"


def config_name(key: ConfigKey) -> str:
    """Return a configuration's name, bracket and index, as the terminal writes it: ``s3#14``."""
    return f"s{key[0]}#{key[1]}"


def pluralize(n: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 epoch`` or ``1,200 epochs``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def format_value(value: Any) -> str:
    """Return a recipe's value for people: floats to four digits, lists without brackets."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(format_value, value)) or "none"
    return str(value)


def choice_key(value: Any) -> str:
    """Return a text that is equal for equal choices, whether lists or tuples."""
    return json.dumps(value)


def was_early_stopped(config: Config) -> bool:
    """Return whether the recipe's early stop ended it before the study did."""
    return config.early_stopped and config.state != "failed"
