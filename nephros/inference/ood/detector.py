"""Whether a picture is like the cells that a model was trained on, and if not, in which way."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.inference.ood.image_statistics import MEASURES, measures
from nephros.inference.ood.structure import distances

RANGE = (0.1, 99.9)
"""Percentiles of the training cells between which a picture is familiar."""
STRUCTURE = "not built like a cell"
DISTANCE = "unlike any training cell to the network"


def fit_ranges(cells: NDArray[np.uint8]) -> dict[str, dict[str, Any]]:
    """Return each measure's definition and its familiar range, `low` and `high`, from training cells."""
    low, high = np.percentile(measures(cells).astype(np.float64), RANGE, axis=0)
    return {
        name: {"what": what, "low": float(low[i]), "high": float(high[i])}
        for i, (name, (what, _, _)) in enumerate(MEASURES.items())
    }


def reasons(about: dict[str, Any] | None, cells: NDArray[np.uint8], distance: NDArray[Any] | None) -> tuple[str, ...]:
    """Return for each picture in which ways it is unfamiliar, in one line, empty where it is familiar.

    `about` is a card's ``unfamiliarity``, None where that could not be fitted; `distance` (n,) is the network's.
    """
    found: list[list[str]] = [[] for _ in cells]
    if about is None:
        return ("",) * len(cells)
    values = measures(cells)
    for column, name in enumerate(MEASURES):
        _, below, above = MEASURES[name]
        low, high = about["ranges"][name]["low"], about["ranges"][name]["high"]
        for outside, word in ((values[:, column] < low, below), (values[:, column] > high, above)):
            for i in np.flatnonzero(outside):
                found[i].append(f"{word} ({name} {values[i, column]:.3g}, training cells {low:.3g} to {high:.3g})")
    far = [(DISTANCE, about["distance"], distance)] if about["distance"] is not None and distance is not None else []
    if structure := about.get("structure"):  # cards of earlier versions have none
        far.insert(0, (STRUCTURE, structure, distances(structure, cells)))
    for words, fitted, lengths in far:
        limit = fitted["threshold"]
        for i in np.flatnonzero(~(lengths <= limit)):
            found[i].append(f"{words} (distance {lengths[i]:.3g}, cells to {limit:.3g})")
    return tuple("; ".join(words) for words in found)
