"""95 % intervals of the macro figures; those of accuracy and recall are Wilson's, in nephros.evaluation.metrics."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nephros.evaluation.metrics import Z95

_DRAWS = 2000


def macro_auc_interval(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], of: list[int]
) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean one-vs-rest AUC over the classes `of`, or None where a class has no AUC.

    The mean plus and minus 1.96 standard errors, which are those of DeLong et al., Biometrics 44, 1988, carried over to
    the mean: a cell's influence on it is the mean of its influences on each class's area.

    Args:
        probabilities: (n, classes), each row the probabilities of one cell.
        labels: (n,).
        of: the classes that the mean is taken over.
    """
    influence, areas = np.zeros(len(labels)), []
    for c in of:
        positive = labels == c
        if positive.all() or not positive.any():
            return None
        above, below = probabilities[positive, c], probabilities[~positive, c]
        beaten = _share_below(above, below)
        areas.append(float(beaten.mean()))
        influence[positive] += (beaten - areas[-1]) / len(above)
        influence[~positive] += (1 - _share_below(below, above) - areas[-1]) / len(below)
    if not areas:
        return None
    middle, error = float(np.mean(areas)), math.sqrt(float((influence**2).sum())) / len(areas)
    return max(0.0, middle - Z95 * error), min(1.0, middle + Z95 * error)


def _share_below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each of `values` the share of `others` that lie below it, ties counted half."""
    order = np.sort(others)
    return (np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right")) / (2 * len(others))


def macro_f1_interval(matrix: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of macro F1 over the classes that the matrix's rows hold.

    Macro F1 depends on the (classes, classes) confusion matrix alone, so drawing cells again is drawing its counts again:
    2,000 multinomial draws with a fixed seed.
    """
    n, classes = int(matrix.sum()), len(matrix)
    present = matrix.sum(axis=1) > 0
    shares = matrix.reshape(-1) / n
    drawn = np.random.default_rng(0).multinomial(n, shares, size=_DRAWS).reshape(_DRAWS, classes, classes)
    hits = drawn.diagonal(axis1=1, axis2=2)
    size = drawn.sum(axis=1) + drawn.sum(axis=2)
    f1 = np.where(size > 0, 2 * hits / np.maximum(size, 1), 0.0)[:, present].mean(axis=1)
    low, high = np.quantile(f1, [0.025, 0.975])
    return float(low), float(high)
