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

from nephros.errors import UserError


@dataclass(frozen=True)
class Epoch:
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

    def better_than(self, other: Epoch, metric: str) -> bool:
        """Return whether this epoch's metric beats the other's."""
        return beats(getattr(self, metric), getattr(other, metric), metric)


def images_seen(rows: Sequence[Epoch]) -> int:
    """Return how many training images the epochs went through, repeats counted."""
    return round(sum(row.seconds * row.images_per_second for row in rows))


def beats(mine: float, theirs: float, metric: str) -> bool:
    """Return whether one value of a metric is better than another; a tie is not, and any number is better than NaN."""
    if math.isnan(theirs):
        return not math.isnan(mine)
    return mine < theirs if metric == "val_loss" else mine > theirs


def to_csv(rows: list[Epoch]) -> str:
    """Return the rows as CSV text with a header."""
    return csv_text(Epoch, rows)


def csv_text(kind: type[Any], rows: Sequence[Any]) -> str:
    """Return dataclass instances of one `kind` as CSV text, with its fields as the header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(row) for row in rows)
    return text.getvalue()


def from_csv(path: Path) -> list[Epoch]:
    """Read what `to_csv` wrote; UserError, naming the file, when it is missing or damaged."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [
                Epoch(epoch=int(row.pop("epoch")), **{key: float(value) for key, value in row.items()})
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is missing or damaged: resume the run with `nephros train --resume`.") from None
