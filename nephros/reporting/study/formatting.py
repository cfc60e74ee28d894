"""How a study's numbers are written, and how its configurations look by what became of them."""

from __future__ import annotations

import json
from typing import Any

from nephros.reporting.plots.style import LIGHT
from nephros.reporting.study.view import Fate, View
from nephros.tuning.study_state import Config, Key

COLOUR: dict[Fate, str] = {
    "best": LIGHT["test"],
    "finished": LIGHT["val"],
    "running": LIGHT["val"],
    "eliminated": LIGHT["train"],
    "failed": LIGHT["train"],
}
"""Fate -> colour. A study never reads the test split, so its orange is free for the best."""

WORDS: dict[Fate, str] = {
    "best": "best of the study",
    "finished": "trained to the end",
    "running": "still in the running",
    "eliminated": "eliminated",
    "failed": "failed",
}

METRIC = {"val_accuracy": "accuracy", "val_loss": "loss", "val_macro_f1": "macro F1", "val_auc": "AUC"}
"""The study's metric -> its name in prose."""


def metric(view: View) -> str:
    """Return the metric's name in prose, such as ``validation accuracy``."""
    return f"validation {METRIC[view.settings.metric]}"


def shown(view: View, value: float | None, digits: int = 1) -> str:
    """Return a value of the study's metric: accuracy in percent with so many decimals, others with two more."""
    if value is None:
        return "\N{EN DASH}"
    return f"{100 * value:.{digits}f} %" if view.settings.metric == "val_accuracy" else f"{value:.{digits + 2}f}"


def named(key: Key) -> str:
    """Return a configuration's name, bracket and index, as the terminal writes it: ``s3#14``."""
    return f"s{key[0]}#{key[1]}"


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 epoch`` or ``1,200 epochs``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def plain(value: Any) -> str:
    """Return a recipe's value for people: floats to four digits, lists without brackets."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "none"
    return str(value)


def same(value: Any) -> str:
    """Return a text that is equal for equal choices, whether lists or tuples."""
    return json.dumps(value)


def stopped(config: Config) -> bool:
    """Return whether the recipe's early stop ended it before the study did."""
    return config.ended and config.state != "failed"
