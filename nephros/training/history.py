"""What each epoch of a run came to."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nephros.errors import NephrosError


@dataclass(frozen=True)
class EpochMetrics:
    """One row of history.csv."""

    epoch: int
    """From 1."""
    lr: float
    """Learning rate of the epoch's last step."""
    train_loss: float
    """Running mean loss a training image, as trained on: augmented, dropout on, weights moving."""
    train_accuracy: float
    """Running share of training images called rightly, likewise."""
    val_loss: float
    """Mean cross-entropy a validation image, in evaluation mode."""
    val_accuracy: float
    val_macro_f1: float
    val_auc: float
    """NaN when validation lacks too many classes for one."""
    seconds: float
    """Training time, validation not counted."""
    images_per_second: float

    def is_better_than(self, other: EpochMetrics, metric: str) -> bool:
        """Return whether this epoch's metric beats the other's."""
        return is_better(getattr(self, metric), getattr(other, metric), metric)


def count_images_seen(history: Sequence[EpochMetrics]) -> int:
    """Return how many training images the epochs went through, repeats counted."""
    return round(sum(row.seconds * row.images_per_second for row in history))


def is_better(value: float, other: float, metric: str) -> bool:
    """Return whether one value of a metric is better than another; a tie is not, and any number is better than NaN."""
    if math.isnan(other):
        return not math.isnan(value)
    return value < other if metric == "val_loss" else value > other


def history_to_csv(history: list[EpochMetrics]) -> str:
    """Return the rows as CSV text with a header."""
    return dataclasses_to_csv(EpochMetrics, history)


def dataclasses_to_csv(row_type: type[Any], rows: Sequence[Any]) -> str:
    """Return dataclass instances of one `row_type` as CSV text, with its fields as the header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [field.name for field in dataclasses.fields(row_type)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(row) for row in rows)
    return buffer.getvalue()


def read_history(path: Path) -> list[EpochMetrics]:
    """Read what `to_csv` wrote; UserError, naming the file, when it is missing or damaged."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [
                EpochMetrics(epoch=int(row.pop("epoch")), **{key: float(value) for key, value in row.items()})
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, KeyError, TypeError):
        raise NephrosError(f"{path} is missing or damaged: resume the run with `nephros train --resume`.") from None
