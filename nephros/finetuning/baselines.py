"""What fine-tuning is measured against: k-nearest neighbors on the same features, and always the largest class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nephros.evaluation.metrics import Floats, Labels
from nephros.finetuning.folds import Folds

NEIGHBOR_COUNTS = (1, 3, 5, 10, 20)


def cross_validate_neighbors(
    features: NDArray[np.float32], labels: Labels, n_classes: int, folds: Folds
) -> tuple[Floats, int]:
    """Return held-out (n, classes) shares of the votes for (n, d) features, and k, the best of NEIGHBOR_COUNTS in hindsight."""
    from sklearn.neighbors import KNeighborsClassifier

    scale = features.std(axis=0)
    x = features / np.where(scale > 1e-8, scale, 1)
    smallest = min(len(train) for train, _ in folds.splits())
    best, best_accuracy, best_k = np.zeros((len(labels), n_classes)), -1.0, 1
    for k in [k for k in NEIGHBOR_COUNTS if k <= smallest]:
        probabilities = np.zeros((len(labels), n_classes))
        for train, held_out in folds.splits():
            model = KNeighborsClassifier(k).fit(x[train], labels[train])
            probabilities[np.ix_(held_out, model.classes_)] = model.predict_proba(x[held_out])
        accuracy = float((probabilities.argmax(axis=1) == labels).mean())
        if accuracy > best_accuracy:
            best, best_accuracy, best_k = probabilities, accuracy, k
    return best, best_k


def predict_largest_class(labels: Labels, n_classes: int) -> Floats:
    """Return the class shares for each of the n images, (n, classes), so that the largest class is always predicted."""
    return np.tile(np.bincount(labels, minlength=n_classes) / len(labels), (len(labels), 1))
