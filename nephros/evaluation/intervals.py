"""95 % confidence intervals of macro AUC and macro F1; those of accuracy and recall are Wilson's (metrics.wilson_interval)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nephros.evaluation.metrics import Z95

_BOOTSTRAP_RESAMPLES = 2000


def macro_auc_interval(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], classes: Sequence[int]
) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean one-vs-rest AUC over some classes; None where one of them has no AUC.

    The interval is the mean plus and minus 1.96 standard errors. They are those of DeLong et al., Biometrics 44, 1988,
    extended to the mean: a cell's influence on the mean is the mean of its influences on each class's AUC.

    Args:
        probabilities: (n, classes), each row the probabilities of one cell.
        labels: (n,).
        classes: indices of the classes to average over.
    """
    influence, aucs = np.zeros(len(labels)), []
    for c in classes:
        positive = labels == c
        if positive.all() or not positive.any():
            return None
        positive_scores, negative_scores = probabilities[positive, c], probabilities[~positive, c]
        ranks = _fraction_below(positive_scores, negative_scores)
        aucs.append(float(ranks.mean()))
        influence[positive] += (ranks - aucs[-1]) / len(positive_scores)
        influence[~positive] += (1 - _fraction_below(negative_scores, positive_scores) - aucs[-1]) / len(
            negative_scores
        )
    if not aucs:
        return None
    mean_auc, standard_error = float(np.mean(aucs)), math.sqrt(float((influence**2).sum())) / len(aucs)
    return max(0.0, mean_auc - Z95 * standard_error), min(1.0, mean_auc + Z95 * standard_error)


def _fraction_below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each of `values` the share of `others` below it; ties count half."""
    sorted_others = np.sort(others)
    return (np.searchsorted(sorted_others, values, "left") + np.searchsorted(sorted_others, values, "right")) / (
        2 * len(others)
    )


def macro_f1_interval(matrix: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of macro F1 over the classes that the matrix's rows hold.

    Macro F1 depends on the (classes, classes) confusion matrix alone, so resampling cells is resampling its counts:
    2,000 multinomial draws with a fixed seed.
    """
    n, n_classes = int(matrix.sum()), len(matrix)
    present = matrix.sum(axis=1) > 0
    probabilities = matrix.reshape(-1) / n
    resampled = (
        np.random.default_rng(0)
        .multinomial(n, probabilities, size=_BOOTSTRAP_RESAMPLES)
        .reshape(_BOOTSTRAP_RESAMPLES, n_classes, n_classes)
    )
    true_positives = resampled.diagonal(axis1=1, axis2=2)
    denominator = resampled.sum(axis=1) + resampled.sum(axis=2)
    f1 = np.where(denominator > 0, 2 * true_positives / np.maximum(denominator, 1), 0.0)[:, present].mean(axis=1)
    low, high = np.quantile(f1, [0.025, 0.975])
    return float(low), float(high)
