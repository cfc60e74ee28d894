"""Support vector machines: scikit-learn fits them, and their coefficients become tensors."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nephros.data.split import Split
from nephros.models.classical import ClassicalModel, KernelSVM, LinearSVM, project_features, uncalibrated_tensors
from nephros.recipe import Recipe
from nephros.training.classical.features import fit_projection, flatten_pixels, standardize
from nephros.training.classical.search_results import FittedModel, Hyperparameters

CACHE_MB = 1000
"""Size of the kernel cache of scikit-learn's exact SVM."""
SKLEARN_SEED_LIMIT = 2**32
"""Exclusive upper bound of scikit-learn's seeds."""
SCORE_BATCH_SIZE = 4096
"""Number of validation images scored at once."""
SGD_MAX_EPOCHS, SGD_MIN_STEPS = 12, 1_000_000
"""Limits of stochastic gradient descent: so many epochs, or as many as make SGD_MIN_STEPS where that is more. It stops
earlier when the loss no longer falls; the weights are averaged, so that more steps would change little."""


def fit_linear_svms(
    recipe: Recipe, train: Split, val: Split, n_classes: int, device: torch.device
) -> Iterator[FittedModel]:
    """Yield a linear SVM for each combination of features and C."""
    for feature_kind, common_tensors, features, val_pixels in _feature_sets(recipe, train, val, n_classes):
        for C in recipe.svm.C:
            svm = _fit_linear_sgd(C, recipe.seed, features.numpy(), train.labels)
            weights = {"weight": svm.coef_, "bias": svm.intercept_}
            tensors = common_tensors | {
                name: _float_tensor(_one_row_per_class(value)) for name, value in weights.items()
            }
            yield _score_validation(Hyperparameters(feature_kind, C=f"{C:g}"), LinearSVM(tensors), val_pixels, device)


def fit_rbf_svms(
    recipe: Recipe, train: Split, val: Split, n_classes: int, device: torch.device
) -> Iterator[FittedModel]:
    """Yield an SVM with an RBF kernel, exact or approximated by landmarks, for each combination of features, gamma and C."""
    for feature_kind, common_tensors, features, val_pixels in _feature_sets(recipe, train, val, n_classes):
        for relative_gamma in recipe.svm.gamma:
            gamma = relative_gamma / features.shape[1]  # the features' mean variance is 1
            fit = (
                _NystroemSVM(recipe.svm.n_landmarks, gamma, features, recipe.seed)
                if recipe.svm.n_landmarks
                else _ExactSVM(gamma, features)
            )
            for C in recipe.svm.C:
                tensors = common_tensors | fit(C, train.labels) | {"gamma": torch.tensor(gamma, dtype=torch.float32)}
                params = Hyperparameters(feature_kind, C=f"{C:g}", gamma=f"{relative_gamma:g}")
                yield _score_validation(params, KernelSVM(tensors), val_pixels, device)


class _NystroemSVM:
    """Linear SVM on Nystroem's approximation of the kernel by random landmarks (Williams and Seeger, NIPS 2000)."""

    def __init__(self, n_landmarks: int, gamma: float, features: Tensor, seed: int) -> None:
        from sklearn.kernel_approximation import Nystroem

        self._seed = seed
        self._map = Nystroem(gamma=gamma, n_components=n_landmarks, random_state=seed % SKLEARN_SEED_LIMIT)
        self._mapped_features = self._map.fit_transform(features.numpy())

    def __call__(self, C: float, labels: NDArray[np.int64]) -> dict[str, Tensor]:
        svm = _fit_linear_sgd(C, self._seed, self._mapped_features, labels)
        weight = self._map.normalization_.T @ _one_row_per_class(svm.coef_).T
        return {
            "landmarks": _float_tensor(self._map.components_),
            "weight": _float_tensor(weight),
            "bias": _float_tensor(_one_row_per_class(svm.intercept_)),
        }


class _ExactSVM:
    """scikit-learn's SVC with an exact kernel: one binary SVM for each pair of classes."""

    def __init__(self, gamma: float, features: Tensor) -> None:
        self._gamma, self._features = gamma, features.numpy()

    def __call__(self, C: float, labels: NDArray[np.int64]) -> dict[str, Tensor]:
        from sklearn.svm import SVC

        svc = SVC(C=C, gamma=self._gamma, cache_size=CACHE_MB).fit(self._features, labels)
        n_present = len(svc.classes_)
        vector_class = np.repeat(np.arange(n_present), svc.n_support_)
        class_pairs = list(itertools.combinations(range(n_present), 2))
        weight = np.zeros((len(vector_class), len(class_pairs)))
        pairs = np.zeros((len(class_pairs), n_present))
        for column, (first, second) in enumerate(class_pairs):
            # libsvm keeps the weights of class i against j in row j - 1 where j > i, and in row j where j < i.
            weight[vector_class == first, column] = svc.dual_coef_[second - 1, vector_class == first]
            weight[vector_class == second, column] = svc.dual_coef_[first, vector_class == second]
            pairs[column, [first, second]] = 1, -1
        if n_present == 2:
            pairs = -pairs  # with two classes scikit-learn takes the second as positive, and there are no votes
            weight, bias = weight @ pairs, svc.intercept_ @ pairs
        else:
            bias = svc.intercept_
        tensors = {
            "landmarks": _float_tensor(svc.support_vectors_),
            "weight": _float_tensor(weight),
            "bias": _float_tensor(bias),
        }
        return tensors if n_present == 2 else tensors | {"pairs": _float_tensor(pairs)}


def _feature_sets(
    recipe: Recipe, train: Split, val: Split, n_classes: int
) -> Iterator[tuple[str, dict[str, Tensor], Tensor, Tensor]]:
    """Yield for each kind of features its name, the tensors of its projection, training features and validation pixels."""
    present_classes = np.unique(train.labels)
    pixels, val_pixels = flatten_pixels(train.images), torch.from_numpy(flatten_pixels(val.images))
    for kind in recipe.classical.features:
        projection_tensors = standardize(fit_projection(kind, pixels, recipe.classical.n_components), pixels)
        yield (
            kind,
            projection_tensors | uncalibrated_tensors(present_classes, n_classes),
            project_features(torch.from_numpy(pixels), projection_tensors),
            val_pixels,
        )


def _fit_linear_sgd(C: float, seed: int, features: NDArray[np.float32], labels: NDArray[np.int64]) -> Any:
    """Return scikit-learn's one-vs-rest linear SVMs, fitted by averaged stochastic gradient descent."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import SGDClassifier

    n = len(labels)
    epochs = max(SGD_MAX_EPOCHS, -(-SGD_MIN_STEPS // n))
    classifier = SGDClassifier(
        alpha=1 / (C * n), average=True, max_iter=epochs, random_state=seed % SKLEARN_SEED_LIMIT, n_jobs=-1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the averaged weights hardly change by then
        return classifier.fit(features, labels)


def _one_row_per_class(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scikit-learn's weights or biases with a row per class; for two classes it keeps only that of the second."""
    return np.concatenate([-coefficients, coefficients]) if len(coefficients) == 1 else coefficients


def _float_tensor(array: Any) -> Tensor:
    return torch.tensor(np.asarray(array), dtype=torch.float32)


def _score_validation(
    params: Hyperparameters, model: ClassicalModel, val_pixels: Tensor, device: torch.device
) -> FittedModel:
    model = model.to(device)
    scores = torch.cat(
        [
            model.expand_to_all_classes(model.scores(model.extract_features(chunk.to(device))))
            for chunk in torch.split(val_pixels, SCORE_BATCH_SIZE)
        ]
    )
    return FittedModel(params, model, scores)
