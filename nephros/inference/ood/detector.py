"""Whether a picture is like the cells that a model was trained on, and if not, in which way."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.inference.ood.image_statistics import IMAGE_STATISTICS, image_statistics
from nephros.inference.ood.structure import structure_distances

RANGE_PERCENTILES = (0.1, 99.9)
"""Percentiles of the training cells between which a picture is familiar."""
STRUCTURE_REASON = "atypical image structure"
FEATURE_DISTANCE_REASON = "features far from every training class"


def fit_statistic_ranges(cells: NDArray[np.uint8]) -> dict[str, dict[str, Any]]:
    """Return each measure's definition and its familiar range, `low` and `high`, from training cells."""
    low, high = np.percentile(image_statistics(cells).astype(np.float64), RANGE_PERCENTILES, axis=0)
    return {
        name: {"description": description, "low": float(low[i]), "high": float(high[i])}
        for i, (name, (description, _, _)) in enumerate(IMAGE_STATISTICS.items())
    }


def find_ood_reasons(
    detector: dict[str, Any] | None, cells: NDArray[np.uint8], feature_distance: NDArray[Any] | None
) -> tuple[str, ...]:
    """Return for each picture in which ways it is unfamiliar, in one line, empty where it is familiar.

    `detector` is a card's ``ood_detector``, None where that could not be fitted; `feature_distance` (n,) is the network's.
    """
    reasons_by_cell: list[list[str]] = [[] for _ in cells]
    if detector is None:
        return ("",) * len(cells)
    values = image_statistics(cells)
    for column, name in enumerate(IMAGE_STATISTICS):
        _, low_reason, high_reason = IMAGE_STATISTICS[name]
        low, high = detector["ranges"][name]["low"], detector["ranges"][name]["high"]
        for out_of_range, reason in ((values[:, column] < low, low_reason), (values[:, column] > high, high_reason)):
            for i in np.flatnonzero(out_of_range):
                reasons_by_cell[i].append(
                    f"{reason} ({name} {values[i, column]:.3g}, training cells {low:.3g} to {high:.3g})"
                )
    distance_checks = (
        [(FEATURE_DISTANCE_REASON, detector["feature_distance"], feature_distance)]
        if detector["feature_distance"] is not None and feature_distance is not None
        else []
    )
    if structure := detector["structure"]:
        distance_checks.insert(0, (STRUCTURE_REASON, structure, structure_distances(structure, cells)))
    for text, parameters, cell_distances in distance_checks:
        threshold = parameters["threshold"]
        for i in np.flatnonzero(~(cell_distances <= threshold)):
            reasons_by_cell[i].append(f"{text} (distance {cell_distances[i]:.3g}, cells to {threshold:.3g})")
    return tuple("; ".join(text) for text in reasons_by_cell)
