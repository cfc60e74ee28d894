"""Published TissueMNIST results, each with its source, as published.csv lists them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

PUBLISHED_DATASET = "tissuemnist"
"""MedMNIST key of the data set that the published results are on."""


@dataclass(frozen=True)
class PublishedResult:
    """One published result."""

    method: str
    input: str
    """Side of the image in pixels, with any padding."""
    accuracy: float
    """On the test split, as a fraction."""
    accuracy_sd: float | None
    """Standard deviation over seeds; None where none was published."""
    auc: float | None
    """Mean one-vs-rest AUC; None where none was published."""
    macro_f1: float | None
    """Unweighted mean over classes; None where none was published."""
    loss: float | None
    """As printed, whatever it was divided by; None where none was published."""
    loss_batch_size: float | None
    """Factor, inferred, that turns the printed loss into a mean per image; None where there is no loss."""
    split: str
    """``official``, or ``another`` where it was not MedMNIST's split."""
    recipe: str
    """The recipe that trains the same model here; empty where there is none."""
    headline: bool
    """Whether charts show it: its source's best, or only, result of the kind."""
    source: str
    url: str
    """Address of the source, of a paper its DOI; empty where there is none."""
    note: str

    @property
    def implied_loss(self) -> float | None:
        """The mean cross-entropy per image, in nats, that the printed loss implies."""
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
