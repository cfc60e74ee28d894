"""TissueMNIST results that others have published, each with its source: published.csv as frozen rows."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

PUBLISHED_DATASET = "tissuemnist"
"""The catalogue's key of the set that the published results are of."""


@dataclass(frozen=True)
class PublishedResult:
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
    macro_f1: float | None
    """Unweighted mean over classes; None where none was published."""
    loss: float | None
    """As printed, whatever it is divided by; None where none was published."""
    loss_batch_size: float | None
    """What the printed loss has to be multiplied by to be a mean an image, by inference; None where there is no loss."""
    split: str
    """``official``, or ``another`` where it was not the MedMNIST one."""
    recipe: str
    """The recipe that trains the same thing here; empty where there is none."""
    headline: bool
    """Whether it is its source's best, or only, result of the kind: charts show these."""
    source: str
    url: str
    """Where the source can be read, a paper by its DOI; empty where there is no address."""
    note: str

    @property
    def implied_loss(self) -> float | None:
        """The mean cross-entropy an image that the printed loss stands for, in nats."""
        return None if self.loss is None or self.loss_batch_size is None else self.loss * self.loss_batch_size


@cache
def published_results() -> tuple[PublishedResult, ...]:
    """Return every row of published.csv, in its order."""
    text = (resources.files("nephros.evaluation") / "published.csv").read_text(encoding="utf-8")
    return tuple(_parse_row(values) for values in csv.DictReader(text.splitlines()))


def _parse_row(fields: dict[str, str]) -> PublishedResult:
    parsed: dict[str, Any] = dict(fields)
    for key in ("accuracy_sd", "auc", "macro_f1", "loss", "loss_batch_size"):
        parsed[key] = float(fields[key]) if fields[key] else None
    return PublishedResult(
        **(parsed | {"accuracy": float(fields["accuracy"]), "headline": fields["headline"] == "yes"})
    )
