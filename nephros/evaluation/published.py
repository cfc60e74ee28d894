"""TissueMNIST results that others have published, each with its source: published.csv as frozen rows."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Published:
    """One published result."""

    method: str
    input: str
    """Side of the image in pixels, with a word on padding where there was any."""
    accuracy: float
    """On the test split, of 1."""
    accuracy_sd: float | None
    """Standard deviation over seeds, of 1; None where none was published."""
    auc: float | None
    """Mean of the one-vs-rest areas; None where none was published."""
    split: str
    """``official``, or ``another`` where it was not the MedMNIST one."""
    source: str
    address: str
    """Where the source can be read; empty where there is no address."""
    note: str


@cache
def published() -> tuple[Published, ...]:
    """Return every row of published.csv, in its order."""
    text = (resources.files("nephros.evaluation") / "published.csv").read_text(encoding="utf-8")
    return tuple(_row(values) for values in csv.DictReader(text.splitlines()))


def _row(values: dict[str, str]) -> Published:
    def number(key: str) -> float | None:
        return float(values[key]) if values[key] else None

    words = {key: values[key] for key in ("method", "input", "split", "source", "address", "note")}
    return Published(accuracy=float(values["accuracy"]), accuracy_sd=number("accuracy_sd"), auc=number("auc"), **words)
