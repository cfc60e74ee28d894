"""How a study's numbers are formatted, and the color and label of each status."""

from __future__ import annotations

import json
from typing import Any

from nephros.reporting.plots.style import LIGHT_COLORS
from nephros.reporting.study.view import StudyView, TrialStatus
from nephros.tuning.study_state import Config, ConfigKey

STATUS_COLORS: dict[TrialStatus, str] = {
    "best": LIGHT_COLORS["test"],
    "complete": LIGHT_COLORS["val"],
    "running": LIGHT_COLORS["val"],
    "pruned": LIGHT_COLORS["train"],
    "failed": LIGHT_COLORS["train"],
}
"""Status -> color. A study never reads the test split, whose orange therefore marks the best."""

STATUS_LABELS: dict[TrialStatus, str] = {
    "best": "best of the study",
    "complete": "trained to the end",
    "running": "still running",
    "pruned": "pruned",
    "failed": "failed",
}

METRIC_NAMES = {"val_accuracy": "accuracy", "val_loss": "loss", "val_macro_f1": "macro F1", "val_auc": "AUC"}
"""The study's metric -> its name in prose."""


def metric_label(view: StudyView) -> str:
    """Return the metric's name in prose, such as ``validation accuracy``."""
    return f"validation {METRIC_NAMES[view.settings.metric]}"


def format_metric(view: StudyView, value: float | None, digits: int = 1) -> str:
    """Return a value of the study's metric: accuracy in percent with `digits` decimals, others with two more."""
    if value is None:
        return "\N{EN DASH}"
    return f"{100 * value:.{digits}f}%" if view.settings.metric == "val_accuracy" else f"{value:.{digits + 2}f}"


def config_name(key: ConfigKey) -> str:
    """Return a configuration's name, its bracket and index, as the command line writes it: ``s3#14``."""
    return f"s{key[0]}#{key[1]}"


def format_value(value: Any) -> str:
    """Return a recipe field's value as text: floats with four digits, lists without brackets."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(format_value, value)) or "none"
    return str(value)


def choice_key(value: Any) -> str:
    """Return a text that is equal for equal choices, be they lists or tuples."""
    return json.dumps(value)


def was_early_stopped(config: Config) -> bool:
    """Return whether the recipe's early stopping ended the configuration before the study did."""
    return config.early_stopped and config.state != "failed"
