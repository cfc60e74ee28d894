"""Temperature scaling: one number by which the logits are divided, so that a probability is a frequency again."""

from __future__ import annotations

import numpy as np

from nephros.evaluation.metrics import Floats, Labels, mean_cross_entropy

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
_GOLDEN = (5**0.5 - 1) / 2


def apply_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Return softmax(logits / temperature), (n, classes), from softmax(logits).

    The logits aren't needed: they are the probabilities' logarithms but for a constant a row, which softmax forgets.
    """
    logits = np.log(np.maximum(probabilities, 1e-300)) / temperature
    exponentials: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


def fit_temperature(probabilities: Floats, labels: Labels) -> float:
    """Return the temperature, from .05 to 20, with the least mean cross-entropy of (n, classes) on labels (n,).

    Guo et al., On calibration of modern neural networks, ICML 2017. The cross-entropy is convex in 1 / temperature and so
    has one minimum in the logarithm of the temperature, which golden-section search finds to a millionth.
    """
    low, high = np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)

    def loss(log_temperature: float) -> float:
        return mean_cross_entropy(apply_temperature(probabilities, float(np.exp(log_temperature))), labels)

    inner = [high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)]
    values = [loss(place) for place in inner]
    while high - low > 1e-6:
        if values[0] < values[1]:
            high, inner[1], values[1] = inner[1], inner[0], values[0]
            inner[0] = high - _GOLDEN * (high - low)
            values[0] = loss(inner[0])
        else:
            low, inner[0], values[0] = inner[0], inner[1], values[1]
            inner[1] = low + _GOLDEN * (high - low)
            values[1] = loss(inner[1])
    return float(np.exp((low + high) / 2))
