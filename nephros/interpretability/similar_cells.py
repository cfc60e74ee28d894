"""Known cells that the network sees as similar: the nearest by its features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.data.dataset import Dataset
from nephros.data.subset import picked
from nephros.errors import UserError
from nephros.inference.predictor import Engine

CELLS = 5000
"""Training cells that are kept, every class's share the same as in the data."""
_AT_ONCE = 256

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Neighbours:
    """Known cells, their classes and their features, of length 1 about the features' mean."""

    images: NDArray[np.uint8]
    """(n, h, w) or (n, h, w, 3)."""
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    title: str
    """The data's, such as ``TissueMNIST, official split``."""
    trained_on: bool
    """Whether the model was trained on this data."""
    features: Floats
    """(n, d)."""
    centre: Floats
    """(d,)."""

    def __len__(self) -> int:
        return len(self.labels)

    def nearest(self, features: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
        """Return the k nearest known cells of (m, d) features: indices (m, k), nearest first, and their similarity.

        The similarity is the cosine of the angle between features about the known cells' mean: 1 the same, 0 unrelated.
        """
        similarity = _unit(features - self.centre) @ self.features.T
        k = min(k, len(self))
        near = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(similarity, near, axis=1), axis=1, kind="stable")
        near = np.take_along_axis(near, order, axis=1)
        return near, np.take_along_axis(similarity, near, axis=1)


def known_cells(
    engine: Engine, dataset: Dataset, most: int = CELLS, seed: int = 0, say: Callable[[str], None] = print
) -> Neighbours:
    """Return a seeded, class-stratified draw of the data's training cells; the test split is not looked at.

    UserError when the cells are not of the model's shape, or the model has no features.
    """
    shape = (engine.channels, engine.height, engine.width)
    if (dataset.channels, *dataset.size) != shape:
        height, width = dataset.size
        raise UserError(
            f"--known {dataset.provenance.name} has {dataset.channels} channels and {height}x{width} pixels, but the model needs "
            f"{shape[0]} and {shape[1]}x{shape[2]}: name other data, or --known none."
        )
    say(f"reading {min(most, len(dataset.train)):,} known cells of {dataset.provenance.title}")

    def features(cells: NDArray[np.uint8]) -> Floats:
        found = engine.answer(cells).features
        if found is None:
            raise UserError("--known needs a model with features, which classical baselines lack: use --known none.")
        return found

    return drawn(features, dataset, most, seed, engine.card["data"]["sha256"] == dataset.provenance.sha256)


def drawn(
    features_of: Callable[[NDArray[np.uint8]], Floats], dataset: Dataset, most: int, seed: int, trained_on: bool
) -> Neighbours:
    """Return a draw of training cells with the features, (n, d), that `features_of` gives to (n, h, w) or (n, h, w, 3)."""
    split = dataset.train if len(dataset.train) <= most else picked(dataset.train, most, seed)
    parts = [features_of(split.images[start : start + _AT_ONCE]) for start in range(0, len(split), _AT_ONCE)]
    features = np.concatenate(parts)
    centre = features.mean(axis=0)
    return Neighbours(
        np.ascontiguousarray(split.images), split.labels, dataset.class_names, dataset.provenance.title,
        trained_on, _unit(features - centre), centre,
    )  # fmt: skip


def _unit(features: Floats) -> Floats:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(length, 1e-12), dtype=np.float32)
