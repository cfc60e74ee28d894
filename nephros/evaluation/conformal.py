"""Prediction sets that hold the right class as often as was asked: split conformal prediction.

The score of a class is 1 - its probability (least ambiguous set-valued classifiers: Sadinle, Lei and Wasserman, JASA 114,
2019). Of all such rules this one has the smallest sets on average, and the same image always gets the same set, where
adaptive prediction sets need a random draw to meet their coverage. What it promises is coverage over all cells, not over
those of each class; so what each class got is measured and told beside it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import NephrosError
from nephros.evaluation.metrics import Floats, Labels

N_LEVELS = 1001
"""Coverages 0, .001, ..., 1 for which thresholds are kept."""


def conformal_quantiles(probabilities: Floats, labels: Labels) -> Floats:
    """Return (1001,) thresholds: at coverage k / 1000, the classes scored at most the k-th of them are the set.

    `probabilities` (n, classes) and `labels` (n,) are of images that were not trained on. The threshold is the
    ceil((n + 1) k / 1000)-th smallest score of a right class, 1 where there are not so many (Vovk et al. 2005; Angelopoulos
    and Bates 2021), and below 0, no class at all, at coverage 0.
    """
    scores = np.sort(1 - probabilities[np.arange(len(labels)), labels])
    ranks = [-(-(len(scores) + 1) * k // (N_LEVELS - 1)) for k in range(N_LEVELS)]
    return np.array([-1.0 if rank == 0 else scores[rank - 1] if rank <= len(scores) else 1.0 for rank in ranks])


def prediction_sets(probabilities: NDArray[Any], quantiles: Floats, coverage: float) -> NDArray[np.bool_]:
    """Return (n, classes) whether each class is in its image's set; `quantiles` is what `conformal_quantiles` made.

    The most probable class is always in: an empty set would tell nothing, and more can only raise the coverage. A
    coverage between two levels takes the higher. UserError unless it is above 0 and at most 1.
    """
    if not 0 < coverage <= 1:
        raise NephrosError(f"--coverage is {coverage:g}, but it must be above 0 and at most 1, such as 0.9.")
    level = math.ceil(round(coverage * (N_LEVELS - 1), 6))
    sets: NDArray[np.bool_] = 1 - np.asarray(probabilities, dtype=np.float64) <= quantiles[level]
    sets[np.arange(len(sets)), np.asarray(probabilities).argmax(axis=1)] = True
    return sets


def coverage_report(probabilities: Floats, labels: Labels, quantiles: Floats, coverage: float) -> dict[str, Any]:
    """Return how often the sets of (n, classes) probabilities held the label, over all and by class, and their mean size."""
    sets = prediction_sets(probabilities, quantiles, coverage)
    covered = sets[np.arange(len(labels)), labels]
    classes = range(probabilities.shape[1])
    return {
        "target_coverage": coverage,
        "n_images": len(labels),
        "coverage": float(covered.mean()),
        "mean_set_size": float(sets.sum(axis=1).mean()),
        "coverage_per_class": [float(covered[labels == c].mean()) if (labels == c).any() else None for c in classes],
    }
