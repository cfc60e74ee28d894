"""Results of a grid search: one row per combination of hyperparameters, and their CSV file."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nephros.models.classical import ClassicalModel
from nephros.reading import MAX_JSON_BYTES, MalformedContent, file_errors, read_text
from nephros.training.history import dataclasses_to_csv, is_better


@dataclass(frozen=True)
class Hyperparameters:
    """A combination of hyperparameters: a value from each list that the baseline uses; the others are empty."""

    features: str = ""
    distance: str = ""
    n_neighbors: str = ""
    C: str = ""
    gamma: str = ""

    @property
    def description(self) -> str:
        """The combination as text, such as `pixels, euclidean, 10 neighbors`."""
        parts = [
            self.features,
            self.distance,
            self.n_neighbors and f"{self.n_neighbors} neighbor{'' if self.n_neighbors == '1' else 's'}",
            self.C and f"C {self.C}",
            self.gamma and f"gamma {self.gamma}",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class FittedModel:
    """The uncalibrated model of a combination, and its (n, classes) scores of the validation split."""

    params: Hyperparameters
    model: ClassicalModel
    scores: Tensor


@dataclass(frozen=True)
class SearchResult(Hyperparameters):
    """A combination and its validation metrics after calibration: a row of search_results.csv."""

    val_accuracy: float = 0.0
    val_loss: float = 0.0
    val_macro_f1: float = 0.0
    val_auc: float = 0.0
    """NaN when validation lacks too many classes for it."""
    seconds: float = 0.0
    """Time to fit it and to score validation."""

    def is_better_than(self, other: SearchResult, metric: str) -> bool:
        """Return whether this combination is better than the other by a metric."""
        return is_better(getattr(self, metric), getattr(other, metric), metric)


def search_results_to_csv(results: list[SearchResult]) -> str:
    """Return the rows as CSV text with a header."""
    return dataclasses_to_csv(SearchResult, results)


def read_search_results(path: Path) -> list[SearchResult]:
    """Read what `search_results_to_csv` returned from a file; FileError when it is missing or damaged."""
    with file_errors(path, f"resume the run with `nephros.resume({str(path.parent)!r})`"):
        rows = csv.DictReader(io.StringIO(read_text(path, MAX_JSON_BYTES), newline=""))
        if set(rows.fieldnames or ()) != {field.name for field in dataclasses.fields(SearchResult)}:
            raise MalformedContent("its columns are not those of search results")
        return [_parse_row(row) for row in rows]


def _parse_row(row: dict[str, str]) -> SearchResult:
    text_fields = {field.name for field in dataclasses.fields(Hyperparameters)}
    values: dict[str, Any] = {
        field.name: row[field.name] if field.name in text_fields else float(row[field.name])
        for field in dataclasses.fields(SearchResult)
    }
    if not all(math.isfinite(values[name]) for name in ("val_accuracy", "val_loss", "val_macro_f1", "seconds")):
        raise MalformedContent("a metric in it is not finite")
    return SearchResult(**values)
