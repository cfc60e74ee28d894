"""Limits of what is in distribution from few cells, whose own percentiles do not show where further ones like them lie.

Of twenty training and two validation cells the largest distance says nothing of the next one. So distances are measured to
reference values that were fitted without the cell (by cross-validation), and limits are where the given share of further cells
lies if the logarithms of the values are normal.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nephros.exporters.inference_module import feature_distance, fit_feature_distance
from nephros.inference.ood.detector import (
    RANGE_PERCENTILES,
    StatisticRange,
    fit_statistic_ranges,
    fit_structure,
    image_statistics,
    structure_distances,
)

FEW_CELLS = 1000
"""Cells below which a percentile of 99.9 is the maximum."""
_N_FOLDS = 5

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def upper_limit(values: Floats, percentile: float) -> float:
    """Return a percentile of (n,) values that are not negative; of few, the bound of a further one where that is larger.

    The bound is that of a prediction interval: mean + t s sqrt(1 + 1/n) of the logarithms, with Student's t for n - 1 degrees
    of freedom.
    """
    from scipy.stats import t

    limit, n = float(np.percentile(values, percentile)), len(values)
    if not 2 <= n < FEW_CELLS:
        return limit
    logs = np.log(values + 1e-9)
    bound = np.exp(logs.mean() + t.ppf(percentile / 100, n - 1) * logs.std(ddof=1) * np.sqrt(1 + 1 / n))
    return max(limit, float(bound))


def few_cell_ranges(cells: NDArray[np.uint8]) -> dict[str, StatisticRange]:
    """Return the ranges of `fit_statistic_ranges`; of few (n, h, w) or (n, h, w, c) cells, wide enough for further ones."""
    ranges = fit_statistic_ranges(cells)
    values = image_statistics(cells).astype(np.float64)
    for column, name in enumerate(ranges):
        above, below = values[:, column] + 1, 1 / (values[:, column] + 1)
        ranges[name]["high"] = max(ranges[name]["high"], upper_limit(above, RANGE_PERCENTILES[1]) - 1)
        ranges[name]["low"] = min(ranges[name]["low"], 1 / upper_limit(below, RANGE_PERCENTILES[1]) - 1)
    return ranges


def shrinkage_ridge(features: Tensor, labels: Tensor, n_classes: int) -> float:
    """Return the ridge for `fit_feature_distance` of few (n, d) features: the shrinkage of Ledoit and Wolf (2004)."""
    from sklearn.covariance import ledoit_wolf_shrinkage

    counts = torch.bincount(labels, minlength=n_classes).clamp_min(1)
    means = torch.zeros(n_classes, features.shape[1], dtype=features.dtype).index_add_(0, labels, features)
    residuals = features - (means / counts[:, None])[labels]
    shrinkage = min(float(ledoit_wolf_shrinkage(residuals.double().numpy(), assume_centered=True)), 0.99)
    return max(1e-3, shrinkage / (1 - shrinkage))


def cross_fitted_feature_distances(features: Tensor, labels: Tensor, n_classes: int, ridge: float) -> Floats:
    """Return the (n,) feature distances of training cells, each from class means and a covariance fitted without it."""

    def measure(fitted_on: Indices, held_out: Indices) -> Floats:
        parameters = fit_feature_distance(features[fitted_on], labels[fitted_on], n_classes, ridge)
        return feature_distance(features[held_out], **parameters).double().numpy()

    return _cross_fit(labels.numpy(), measure)


def cross_fitted_structure_distances(cells: NDArray[np.uint8], labels: Indices) -> Floats:
    """Return the (n,) structure distances of training cells, each from the mean and covariance of others."""
    return _cross_fit(
        labels, lambda fitted_on, held_out: structure_distances(fit_structure(cells[fitted_on]), cells[held_out])
    )


def _cross_fit(labels: Indices, measure: Callable[[Indices, Indices], Floats]) -> Floats:
    fold_of = np.empty(len(labels), np.int64)
    fold_of[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % _N_FOLDS  # every class in every fold
    distances = np.empty(len(labels))
    for fold in np.unique(fold_of):
        held_out = np.flatnonzero(fold_of == fold)
        distances[held_out] = measure(np.flatnonzero(fold_of != fold), held_out)
    return distances
