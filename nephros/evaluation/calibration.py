"""Calibrated probabilities and prediction sets: temperature scaling, and split conformal prediction.

Temperature scaling divides the logits by one fitted number, so that predicted probabilities match observed frequencies.

Split conformal prediction gives sets of classes that contain the true class with a chosen frequency. The score of a class
is 1 - its probability (least ambiguous set-valued classifiers: Sadinle, Lei and Wasserman, JASA 114, 2019). Among all such
rules this one has the smallest sets on average, and an image always gets the same set, whereas adaptive prediction sets
need a random draw to reach their coverage. The guarantee holds over all cells, not within each class; `coverage_report`
therefore measures the coverage of each class.
"""

from __future__ import annotations

import logging
import math
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from nephros.errors import InvalidArgument
from nephros.evaluation.metrics import Floats, Labels, mean_cross_entropy

logger = logging.getLogger(__name__)

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
UNCALIBRATED = 1.0
"""Temperature in place of a fitted one at either bound: it changes no probability."""
_TOLERANCE = 1e-6
"""Of the logarithm of the temperature."""


def apply_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Return softmax(logits / temperature), (n, classes), from softmax(logits).

    The logits themselves are not needed: the logarithms of the probabilities differ from them by one constant per row,
    which cancels in the softmax.
    """
    logits = np.log(np.maximum(probabilities, 1e-300)) / temperature
    exponentials: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


def fit_temperature(probabilities: Floats, labels: Labels) -> float:
    """Return the temperature, from 0.05 to 20, that minimizes the mean cross-entropy of (n, classes) on labels (n,).

    Guo et al., On calibration of modern neural networks, ICML 2017. The cross-entropy is convex in 1 / temperature, so it
    has a single minimum in the logarithm of the temperature. A minimum at either bound, as where every image is right or the
    probabilities are far off, calibrates nothing: it is logged as a warning and UNCALIBRATED is returned.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return mean_cross_entropy(apply_temperature(probabilities, float(np.exp(log_temperature))), labels)

    bounds = (float(np.log(MIN_TEMPERATURE)), float(np.log(MAX_TEMPERATURE)))
    log_temperature = float(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": _TOLERANCE}).x)
    # Where every image is right with room to spare, the loss is flat before the bound: what counts is that none is below it.
    if min(map(loss, bounds)) <= loss(log_temperature) + _TOLERANCE:
        logger.warning(
            "The fitted temperature lies at the bound of the search (%g to %g), so it is not kept: the probabilities stay "
            "uncalibrated.",
            MIN_TEMPERATURE,
            MAX_TEMPERATURE,
        )
        return UNCALIBRATED
    return float(np.exp(log_temperature))


N_LEVELS = 1001
"""Number of coverages, 0, 0.001, ..., 1, for which a quantile is stored."""


class CoverageReport(TypedDict):
    """Measured coverage of prediction sets, as plain JSON values."""

    target_coverage: float
    n_images: int
    coverage: float
    """Share of images whose set contains the label."""
    mean_set_size: float
    coverage_per_class: list[float | None]
    """None for a class without images."""


def conformal_quantiles(probabilities: Floats, labels: Labels) -> Floats:
    """Return the (1001,) quantiles of the score: at coverage k / 1000 a set holds the classes that score at most the k-th.

    `probabilities` (n, classes) and `labels` (n,) must come from images that were not trained on. The k-th quantile is the
    ceil((n + 1) k / 1000)-th smallest score of a true class, 1 where there are too few scores (Vovk et al. 2005;
    Angelopoulos and Bates 2021), and below 0, which admits no class, at coverage 0.
    """
    scores = np.sort(1 - probabilities[np.arange(len(labels)), labels])
    ranks = [-(-(len(scores) + 1) * k // (N_LEVELS - 1)) for k in range(N_LEVELS)]
    return np.array([-1.0 if rank == 0 else scores[rank - 1] if rank <= len(scores) else 1.0 for rank in ranks])


def check_coverage(coverage: float) -> None:
    """Raise InvalidArgument unless `coverage` is above 0 and at most 1."""
    if not 0 < coverage <= 1:
        raise InvalidArgument("coverage", coverage, "above 0 and at most 1, such as 0.9")


def prediction_sets(probabilities: NDArray[Any], quantiles: Floats, coverage: float) -> NDArray[np.bool_]:
    """Return (n, classes) whether each class is in its image's prediction set.

    `probabilities` is (n, classes), `quantiles` comes from `conformal_quantiles`. The most probable class is always in the
    set: an empty set carries no information, and one more class can only raise the coverage. A coverage between two levels
    takes the higher one. Raises InvalidArgument unless `coverage` is above 0 and at most 1.
    """
    check_coverage(coverage)
    level = math.ceil(round(coverage * (N_LEVELS - 1), 6))
    sets: NDArray[np.bool_] = 1 - np.asarray(probabilities, dtype=np.float64) <= quantiles[level]
    sets[np.arange(len(sets)), np.asarray(probabilities).argmax(axis=1)] = True
    return sets


def coverage_report(probabilities: Floats, labels: Labels, quantiles: Floats, coverage: float) -> CoverageReport:
    """Return how often the sets of (n, classes) probabilities contain the label, overall and per class, and their mean size."""
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
