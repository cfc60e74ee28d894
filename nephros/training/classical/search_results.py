"""What a classical baseline tried: one row a combination of the recipe's lists."""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nephros.errors import UserError
from nephros.models.classical import ClassicalModel
from nephros.training.history import beats, csv_text


@dataclass(frozen=True)
class Combination:
    """One value of each list that the baseline has; the others are empty."""

    features: str = ""
    distance: str = ""
    neighbours: str = ""
    cost: str = ""
    gamma: str = ""

    @property
    def words(self) -> str:
        """The combination as text, such as `pixels, euclidean, 10 neighbours`."""
        parts = [
            self.features,
            self.distance,
            self.neighbours and f"{self.neighbours} neighbours",
            self.cost and f"C {self.cost}",
            self.gamma and f"gamma {self.gamma}",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Learnt:
    """A model of one combination, not calibrated yet, and its (n, classes) scores of validation."""

    combination: Combination
    model: ClassicalModel
    scores: Tensor


@dataclass(frozen=True)
class Tried(Combination):
    """One row of tried.csv: a combination, and how it did on validation once calibrated there."""

    val_accuracy: float = 0.0
    val_loss: float = 0.0
    val_macro_f1: float = 0.0
    val_auc: float = 0.0
    """NaN when validation lacks too many classes for one."""
    seconds: float = 0.0
    """To learn it and to score validation."""

    def better_than(self, other: Tried, metric: str) -> bool:
        """Return whether this one's metric beats the other's."""
        return beats(getattr(self, metric), getattr(other, metric), metric)


def to_csv(rows: list[Tried]) -> str:
    """Return the rows as CSV text with a header."""
    return csv_text(Tried, rows)


def from_csv(path: Path) -> list[Tried]:
    """Read what `to_csv` wrote; UserError, naming the file, when it is damaged."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [_row(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: resume the run with `nephros train --resume`.") from None


def _row(row: dict[str, str]) -> Tried:
    words = {field.name for field in dataclasses.fields(Combination)}
    values: dict[str, Any] = {
        field.name: row[field.name] if field.name in words else float(row[field.name])
        for field in dataclasses.fields(Tried)
    }
    return Tried(**values)
