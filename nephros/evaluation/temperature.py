"""Temperature scaling: divide the logits by one fitted number, so that predicted probabilities match observed frequencies."""

from __future__ import annotations

import logging

import numpy as np

from nephros.evaluation.metrics import Floats, Labels, mean_cross_entropy

logger = logging.getLogger(__name__)

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
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
    has a single minimum in the logarithm of the temperature. A minimum at either bound is logged as a warning: the
    probabilities are then so far off that the temperature doesn't calibrate them.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return mean_cross_entropy(apply_temperature(probabilities, float(np.exp(log_temperature))), labels)

    bounds = (float(np.log(MIN_TEMPERATURE)), float(np.log(MAX_TEMPERATURE)))
    log_temperature = float(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": _TOLERANCE}).x)
    if min(log_temperature - bounds[0], bounds[1] - log_temperature) < 1e-3:
        logger.warning(
            "The fitted temperature, %.3g, lies at the bound of the search (%g to %g): the probabilities stay uncalibrated.",
            np.exp(log_temperature),
            MIN_TEMPERATURE,
            MAX_TEMPERATURE,
        )
    return float(np.exp(log_temperature))
