"""Learning support vector machines: scikit-learn fits them, and what it found becomes tensors."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nephros.data.dataset import Split
from nephros.models.classical import ClassicalModel, KernelMachine, LinearMachine, blank, project
from nephros.recipe_parts import Classic
from nephros.training.classical.features import flat, projection, standardised
from nephros.training.classical.search_results import Combination, Learnt

CACHE_MB = 1000
"""Of kernel values that scikit-learn's exact machine keeps."""
SEEDS = 2**32
"""scikit-learn's seeds are below this."""
ROWS = 4096
"""Validation images scored at once."""
EPOCHS, STEPS = 12, 1_000_000
"""Of stochastic gradient descent at most: so many epochs, or so many steps where that is more. It stops earlier where the loss no
longer falls; with averaged weights more would change little but the time."""


def linear_machines(
    settings: Classic, train: Split, val: Split, classes: int, device: torch.device, seed: int
) -> Iterator[Learnt]:
    """Yield a linear machine for each combination of features and cost."""
    for kind, frame, features, queries in _features(settings, train, val, classes):
        for cost in settings.cost:
            found = _descent(cost, seed, features.numpy(), train.labels)
            weights = {"weight": found.coef_, "bias": found.intercept_}
            tensors = frame | {name: _float(_one_row_a_class(value)) for name, value in weights.items()}
            yield _learnt(Combination(kind, cost=f"{cost:g}"), LinearMachine(tensors), queries, device)


def rbf_machines(
    settings: Classic, train: Split, val: Split, classes: int, device: torch.device, seed: int
) -> Iterator[Learnt]:
    """Yield a machine with a Gaussian kernel for each combination of features, gamma and cost: exact, or by landmarks."""
    for kind, frame, features, queries in _features(settings, train, val, classes):
        for scaled in settings.gamma:
            gamma = scaled / features.shape[1]  # the features' mean variance is 1
            fit = (
                _Nystroem(settings.landmarks, gamma, features, seed) if settings.landmarks else _Exact(gamma, features)
            )
            for cost in settings.cost:
                tensors = frame | fit(cost, train.labels) | {"gamma": torch.tensor(gamma, dtype=torch.float32)}
                combination = Combination(kind, cost=f"{cost:g}", gamma=f"{scaled:g}")
                yield _learnt(combination, KernelMachine(tensors), queries, device)


class _Nystroem:
    """A linear machine on an approximation of the kernel by random landmarks (Williams and Seeger, NIPS 2000)."""

    def __init__(self, landmarks: int, gamma: float, features: Tensor, seed: int) -> None:
        from sklearn.kernel_approximation import Nystroem

        self._seed = seed
        self._map = Nystroem(gamma=gamma, n_components=landmarks, random_state=seed % SEEDS)
        self._mapped = self._map.fit_transform(features.numpy())

    def __call__(self, cost: float, labels: NDArray[np.int64]) -> dict[str, Tensor]:
        found = _descent(cost, self._seed, self._mapped, labels)
        weight = self._map.normalization_.T @ _one_row_a_class(found.coef_).T
        return {
            "landmarks": _float(self._map.components_),
            "weight": _float(weight),
            "bias": _float(_one_row_a_class(found.intercept_)),
        }


class _Exact:
    """scikit-learn's SVC: one machine for each pair of classes."""

    def __init__(self, gamma: float, features: Tensor) -> None:
        self._gamma, self._features = gamma, features.numpy()

    def __call__(self, cost: float, labels: NDArray[np.int64]) -> dict[str, Tensor]:
        from sklearn.svm import SVC

        found = SVC(C=cost, gamma=self._gamma, cache_size=CACHE_MB).fit(self._features, labels)
        present = len(found.classes_)
        of = np.repeat(np.arange(present), found.n_support_)
        couples = list(itertools.combinations(range(present), 2))
        weight = np.zeros((len(of), len(couples)))
        pairs = np.zeros((len(couples), present))
        for column, (first, second) in enumerate(couples):
            # libsvm keeps the weights of class i against j in row j - 1 where j > i, and in row j where j < i.
            weight[of == first, column] = found.dual_coef_[second - 1, of == first]
            weight[of == second, column] = found.dual_coef_[first, of == second]
            pairs[column, [first, second]] = 1, -1
        if present == 2:
            pairs = -pairs  # of two classes scikit-learn lets the second be the positive one, and there are no votes
            weight, bias = weight @ pairs, found.intercept_ @ pairs
        else:
            bias = found.intercept_
        tensors = {"landmarks": _float(found.support_vectors_), "weight": _float(weight), "bias": _float(bias)}
        return tensors if present == 2 else tensors | {"pairs": _float(pairs)}


def _features(
    settings: Classic, train: Split, val: Split, classes: int
) -> Iterator[tuple[str, dict[str, Tensor], Tensor, Tensor]]:
    """Yield each kind of features: its name, the tensors that make it, training features and validation pixels."""
    present = np.unique(train.labels)
    pixels, queries = flat(train.images), torch.from_numpy(flat(val.images))
    for kind in settings.features:
        made = standardised(projection(kind, pixels, settings.components), pixels)
        yield kind, made | blank(present, classes), project(torch.from_numpy(pixels), made), queries


def _descent(cost: float, seed: int, features: NDArray[np.float32], labels: NDArray[np.int64]) -> Any:
    """Return scikit-learn's linear machines, one class against the rest, by averaged stochastic gradient descent."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import SGDClassifier

    n = len(labels)
    epochs = max(EPOCHS, -(-STEPS // n))
    machine = SGDClassifier(alpha=1 / (cost * n), average=True, max_iter=epochs, random_state=seed % SEEDS, n_jobs=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the averaged weights hardly move by then
        return machine.fit(features, labels)


def _one_row_a_class(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scikit-learn's weights or biases with a row for each class: of two classes it keeps the second's alone."""
    return np.concatenate([-found, found]) if len(found) == 1 else found


def _float(array: Any) -> Tensor:
    return torch.tensor(np.asarray(array), dtype=torch.float32)


def _learnt(combination: Combination, model: ClassicalModel, queries: Tensor, device: torch.device) -> Learnt:
    model = model.to(device)
    scores = torch.cat(
        [model.spread_out(model.scores(model.features(some.to(device)))) for some in torch.split(queries, ROWS)]
    )
    return Learnt(combination, model, scores)
