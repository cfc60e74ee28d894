"""Training history: the metrics of each epoch, and their CSV file."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nephros.errors import FileError


@dataclass(frozen=True)
class EpochMetrics:
    """Metrics of one epoch: a row of history.csv."""

    epoch: int
    """From 1."""
    lr: float
    """Learning rate of the epoch's last step."""
    train_loss: float
    """Running mean loss per training image as optimized: with augmentation and dropout, and over changing weights."""
    train_accuracy: float
    """Running share of correctly predicted training images, under the same conditions."""
    val_loss: float
    """Mean cross-entropy per validation image, in evaluation mode."""
    val_accuracy: float
    val_macro_f1: float
    val_auc: float
    """NaN when validation lacks too many classes for it."""
    seconds: float
    """Training time without validation."""
    images_per_second: float

    def is_better_than(self, other: EpochMetrics, metric: str) -> bool:
        """Return whether this epoch is better than the other by a metric."""
        return is_better(getattr(self, metric), getattr(other, metric), metric)


def count_images_seen(history: Sequence[EpochMetrics]) -> int:
    """Return the number of training images that the epochs processed, repetitions included."""
    return round(sum(row.seconds * row.images_per_second for row in history))


def is_better(value: float, other: float, metric: str) -> bool:
    """Return whether one value of a metric is better than another; a tie is not, and any number is better than NaN."""
    if math.isnan(other):
        return not math.isnan(value)
    return value < other if metric == "val_loss" else value > other


def history_to_csv(history: list[EpochMetrics]) -> str:
    """Return the epochs as CSV text with a header."""
    return dataclasses_to_csv(EpochMetrics, history)


def dataclasses_to_csv(row_type: type[Any], rows: Sequence[Any]) -> str:
    """Return instances of the dataclass `row_type` as CSV text, with its fields as the header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [field.name for field in dataclasses.fields(row_type)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(row) for row in rows)
    return buffer.getvalue()


def read_history(path: Path) -> list[EpochMetrics]:
    """Read what `history_to_csv` returned from a file; FileError when it is missing or damaged."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [
                EpochMetrics(epoch=int(row.pop("epoch")), **{key: float(value) for key, value in row.items()})
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, KeyError, TypeError):
        raise FileError(
            path, f"{path} is missing or damaged: resume the run with `nephros.resume({str(path.parent)!r})`."
        ) from None
