"""Classifiers that people fit to a few labels, on pixels or on the features of a network, for comparison with fine-tuning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nephros.evaluation.metrics import Floats, Labels

Fit = Callable[[int], object]
_N_NEIGHBORS = 5


def neighbors(seed: int) -> object:
    """Return 5-nearest neighbors on standardized columns."""
    from sklearn.neighbors import KNeighborsClassifier

    return _standardized(KNeighborsClassifier(_N_NEIGHBORS))


def forest(seed: int) -> object:
    """Return a random forest of 300 trees."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(300, random_state=seed)


def discriminant(seed: int) -> object:
    """Return linear discriminant analysis whose pooled covariance is shrunk as Ledoit and Wolf (2004) do."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")


def prototypes(seed: int) -> object:
    """Return the nearest shrunken class mean (Tibshirani et al., PNAS 2002), on standardized columns."""
    from sklearn.neighbors import NearestCentroid

    return _standardized(NearestCentroid(shrink_threshold=0.2))


PIXEL_CLASSIFIERS: dict[str, Fit] = {"knn-pixels": neighbors, "forest-pixels": forest}
FEATURE_CLASSIFIERS: dict[str, Fit] = {"knn-features": neighbors, "lda": discriminant, "prototypes": prototypes}


def fit_and_predict(fit: Fit, x: NDArray[np.float32], labels: Labels, new_x: NDArray[np.float32], seed: int) -> Floats:
    """Fit a classifier to (n, d) columns and labels (n,), all classes present; return (m, classes), 1 for the predicted class."""
    classifier = fit(seed)
    predicted = classifier.fit(x, labels).predict(new_x)  # type: ignore[attr-defined]
    probabilities: Floats = np.eye(int(labels.max()) + 1)[predicted]
    return probabilities


def _standardized(classifier: object) -> object:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), classifier)
