"""The last layer alone: L2-regularized logistic regression on features, its strength chosen by cross-validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.evaluation.metrics import Floats, Labels, mean_cross_entropy
from nephros.finetuning.folds import Folds

C_VALUES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
"""Inverse strengths of the regularization that are tried, as scikit-learn's C, on features of unit variance."""
DEFAULT_C = 0.01
"""Where too few labels are left to choose."""
_MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class LinearHead:
    """A last layer: logits = features @ weight.T + bias."""

    weight: Floats
    """(classes, d)."""
    bias: Floats
    """(classes,)."""
    C: float

    def predict(self, features_by_view: NDArray[np.float32]) -> Floats:
        """Return the (n, classes) probabilities of (n, views, d) features, averaged over the views."""
        logits = features_by_view.astype(np.float64) @ self.weight.T + self.bias
        exponentials = np.exp(logits - logits.max(axis=2, keepdims=True))
        probabilities: Floats = (exponentials / exponentials.sum(axis=2, keepdims=True)).mean(axis=1)
        return probabilities


def fit_head(
    features: NDArray[np.float32],
    labels: Labels,
    n_classes: int,
    C: float,
    *,
    start: LinearHead | None = None,
    is_standardized: bool = False,
) -> LinearHead:
    """Fit a head to (n, d) features and labels (n,); a class without labels gets a bias that it can hardly overcome.

    The result depends on `start`, a head for the same classes from which the solver begins, only as far as its tolerance: of a
    head for nearly the same labels it takes a fraction of the time. Features that `is_standardized` says to be of unit variance,
    such as among many more images than these, are taken as they are; others are standardized over these images.
    """
    from sklearn.linear_model import LogisticRegression

    x = features.astype(np.float64)
    mean, std = (np.zeros(x.shape[1]), np.ones(x.shape[1])) if is_standardized else (x.mean(axis=0), x.std(axis=0))
    # A feature that never varies says nothing; its coefficient stays 0.
    scale = np.where(std > 1e-8, std, np.inf)
    present = np.unique(labels)
    weight, bias = np.zeros((n_classes, x.shape[1])), np.full(n_classes, -20.0)
    if len(present) == 1:
        bias[present] = 0.0
        return LinearHead(weight, bias, C)
    model = LogisticRegression(C=C, max_iter=_MAX_ITERATIONS, warm_start=start is not None)
    if start is not None:
        _start_from(model, start, present, mean, np.where(std > 1e-8, std, 0.0))
    model.fit((x - mean) / scale, labels)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(present) == 2:  # scikit-learn keeps one row, the log odds of the second class
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight[present] = coefficients / scale
    bias[present] = intercepts - weight[present] @ mean
    return LinearHead(weight, bias, C)


def _start_from(model: Any, start: LinearHead, present: Labels, mean: Floats, std: Floats) -> None:
    """Set the coefficients, on standardized features, from which scikit-learn's solver begins."""
    coefficients = start.weight[present] * std
    # A class that had no labels has a bias far from that of the others, from which the solver would take long to return.
    intercepts = np.maximum(start.bias[present] + start.weight[present] @ mean, -10.0)
    if len(present) == 2:
        coefficients, intercepts = coefficients[1:] - coefficients[:1], intercepts[1:] - intercepts[:1]
    model.coef_, model.intercept_ = coefficients, intercepts


def choose_C(features: NDArray[np.float32], labels: Labels, n_classes: int, folds: Folds) -> float:
    """Return the value of C_VALUES whose held-out predictions have the least mean cross-entropy; of equals, the smallest."""
    losses = []
    for C in C_VALUES:
        probabilities = np.empty((len(labels), n_classes))
        for train, held_out in folds.splits():
            head = fit_head(features[train], labels[train], n_classes, C)
            probabilities[held_out] = head.predict(features[held_out][:, None])
        losses.append(mean_cross_entropy(probabilities, labels))
    return C_VALUES[int(np.argmin(losses))]
