"""What a classical baseline tried: one row a combination of the recipe's lists."""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nephros.errors import NephrosError
from nephros.models.classical import ClassicalModel
from nephros.training.history import dataclasses_to_csv, is_better


@dataclass(frozen=True)
class Hyperparameters:
    """One value of each list that the baseline has; the others are empty."""

    features: str = ""
    distance: str = ""
    n_neighbors: str = ""
    C: str = ""
    gamma: str = ""

    @property
    def description(self) -> str:
        """The combination as text, such as `pixels, euclidean, 10 neighbours`."""
        parts = [
            self.features,
            self.distance,
            self.n_neighbors and f"{self.n_neighbors} neighbours",
            self.C and f"C {self.C}",
            self.gamma and f"gamma {self.gamma}",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class FittedModel:
    """A model of one combination, not calibrated yet, and its (n, classes) scores of validation."""

    params: Hyperparameters
    model: ClassicalModel
    scores: Tensor


@dataclass(frozen=True)
class SearchResult(Hyperparameters):
    """One row of search_results.csv: a combination, and how it did on validation once calibrated there."""

    val_accuracy: float = 0.0
    val_loss: float = 0.0
    val_macro_f1: float = 0.0
    val_auc: float = 0.0
    """NaN when validation lacks too many classes for one."""
    seconds: float = 0.0
    """To learn it and to score validation."""

    def is_better_than(self, other: SearchResult, metric: str) -> bool:
        """Return whether this one's metric beats the other's."""
        return is_better(getattr(self, metric), getattr(other, metric), metric)


def search_results_to_csv(results: list[SearchResult]) -> str:
    """Return the rows as CSV text with a header."""
    return dataclasses_to_csv(SearchResult, results)


def read_search_results(path: Path) -> list[SearchResult]:
    """Read what `to_csv` wrote; UserError, naming the file, when it is damaged."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [_parse_row(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        raise NephrosError(f"{path} is damaged: resume the run with `nephros train --resume`.") from None


def _parse_row(row: dict[str, str]) -> SearchResult:
    text_fields = {field.name for field in dataclasses.fields(Hyperparameters)}
    values: dict[str, Any] = {
        field.name: row[field.name] if field.name in text_fields else float(row[field.name])
        for field in dataclasses.fields(SearchResult)
    }
    return SearchResult(**values)
