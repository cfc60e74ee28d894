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

from nephros.reading import MAX_JSON_BYTES, MalformedContent, decode, file_errors, read_text


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
    with file_errors(path, f"resume the run with `nephros.resume({str(path.parent)!r})`"):
        rows = csv.DictReader(io.StringIO(read_text(path, MAX_JSON_BYTES), newline=""))
        if rows.fieldnames != [field.name for field in dataclasses.fields(EpochMetrics)]:
            raise MalformedContent("its columns are not those of a history")
        return decode_history(
            [{"epoch": int(row.pop("epoch")), **{key: float(value) for key, value in row.items()}} for row in rows]
        )


def decode_history(rows: Any) -> list[EpochMetrics]:
    """Return the epochs that `dataclasses.asdict` converted; MalformedContent unless they are 1, 2, ..., with finite metrics."""
    if not isinstance(rows, list | tuple):
        raise MalformedContent("'history' is not a list of epochs")
    history = [decode_epoch(row, f"history[{i}]") for i, row in enumerate(rows)]
    if [epoch.epoch for epoch in history] != list(range(1, len(history) + 1)):
        raise MalformedContent("'history' has other epochs than 1, 2, 3 and so on")
    return history


def decode_epoch(row: Any, name: str) -> EpochMetrics:
    """Return the epoch that `dataclasses.asdict` converted; MalformedContent, with its `name`, unless its metrics are finite."""
    has_no_auc = isinstance(row, dict) and isinstance(auc := row.get("val_auc"), float) and math.isnan(auc)
    epoch = decode(EpochMetrics, row | {"val_auc": 0.0} if has_no_auc else row, name)
    return dataclasses.replace(epoch, val_auc=math.nan) if has_no_auc else epoch
