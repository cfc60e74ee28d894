"""How well annotators agree on the cells that both labeled."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Agreement:
    """Two annotators on the same cells."""

    a: str
    b: str
    n_both: int
    """Cells that both labeled."""
    n_disagree: int
    kappa: float | None
    """Cohen's kappa (1960); None without cells in common, or where both used one and the same class only."""


def cohen_kappa(first: NDArray[np.int64], second: NDArray[np.int64]) -> float | None:
    """Return Cohen's kappa of two annotators' classes (n,) for the same cells: agreement beyond that by chance, at most 1.

    None without cells, or where both put all cells into one class, so that agreement by chance is certain.
    """
    if not len(first):
        return None
    observed = float((first == second).mean())
    expected = sum(float((first == c).mean() * (second == c).mean()) for c in np.union1d(first, second))
    return None if expected >= 1 - 1e-12 else (observed - expected) / (1 - expected)


def compare_annotators(labels: dict[str, NDArray[np.int64]]) -> list[Agreement]:
    """Return the agreement of each pair of annotators that share a cell, given their labels (n,), -1 for none."""
    agreements = []
    for first, second in combinations(labels, 2):
        both = (labels[first] >= 0) & (labels[second] >= 0)
        if not both.any():
            continue
        of_first, of_second = labels[first][both], labels[second][both]
        agreements.append(
            Agreement(
                first, second, int(both.sum()), int((of_first != of_second).sum()), cohen_kappa(of_first, of_second)
            )
        )
    return agreements


def disagreeing_cells(labels: dict[str, NDArray[np.int64]], n_cells: int) -> NDArray[np.bool_]:
    """Return (n,) whether two annotators gave a cell different classes."""
    highest, lowest = np.full(n_cells, -1), np.full(n_cells, np.iinfo(np.int64).max)
    for of_one in labels.values():
        highest = np.maximum(highest, of_one)
        lowest = np.where(of_one >= 0, np.minimum(lowest, of_one), lowest)
    disagrees: NDArray[np.bool_] = highest > lowest
    return disagrees
