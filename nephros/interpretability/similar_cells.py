"""Known cells that the network sees as similar: the nearest by its features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.data.dataset import Dataset
from nephros.data.subset import stratified_subset
from nephros.errors import NephrosError
from nephros.inference.predictor import Predictor

MAX_REFERENCE_CELLS = 5000
"""Training cells that are kept, every class's share the same as in the data."""
_BATCH_SIZE = 256

Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class ReferenceIndex:
    """Known cells, their classes and their features, of length 1 about the features' mean."""

    images: NDArray[np.uint8]
    """(n, h, w) or (n, h, w, 3)."""
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    title: str
    """The data's, such as ``TissueMNIST, official split``."""
    trained_on: bool
    """Whether the model was trained on this data."""
    unit_features: Float32Array
    """(n, d)."""
    feature_mean: Float32Array
    """(d,)."""

    def __len__(self) -> int:
        return len(self.labels)

    def nearest(self, features: Float32Array, k: int) -> tuple[NDArray[np.int64], Float32Array]:
        """Return the k nearest known cells of (m, d) features: indices (m, k), nearest first, and their similarity.

        The similarity is the cosine of the angle between features about the known cells' mean: 1 the same, 0 unrelated.
        """
        similarity = _normalize_rows(features - self.feature_mean) @ self.unit_features.T
        k = min(k, len(self))
        indices = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(similarity, indices, axis=1), axis=1, kind="stable")
        indices = np.take_along_axis(indices, order, axis=1)
        return indices, np.take_along_axis(similarity, indices, axis=1)


def build_reference_index(
    predictor: Predictor,
    dataset: Dataset,
    max_cells: int = MAX_REFERENCE_CELLS,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> ReferenceIndex:
    """Return a seeded, class-stratified draw of the data's training cells; the test split is not looked at.

    UserError when the cells are not of the model's shape, or the model has no features.
    """
    shape = (predictor.channels, predictor.height, predictor.width)
    if (dataset.channels, *dataset.image_size) != shape:
        height, width = dataset.image_size
        raise NephrosError(
            f"--reference-data {dataset.provenance.name} has {dataset.channels} channels and {height}x{width} pixels, "
            f"but the model needs {shape[0]} and {shape[1]}x{shape[2]}: name other data, or --reference-data none."
        )
    say(f"reading {min(max_cells, len(dataset.train)):,} known cells of {dataset.provenance.title}")

    def embed(cells: NDArray[np.uint8]) -> Float32Array:
        features = predictor.predict_batch(cells).features
        if features is None:
            raise NephrosError(
                "--reference-data needs a model with features, which classical baselines lack: use --reference-data none."
            )
        return features

    return sample_reference_index(
        embed, dataset, max_cells, seed, predictor.card["data"]["sha256"] == dataset.provenance.sha256
    )


def sample_reference_index(
    embed: Callable[[NDArray[np.uint8]], Float32Array], dataset: Dataset, max_cells: int, seed: int, trained_on: bool
) -> ReferenceIndex:
    """Return a draw of training cells with the features, (n, d), that `embed` gives to (n, h, w) or (n, h, w, 3)."""
    split = dataset.train if len(dataset.train) <= max_cells else stratified_subset(dataset.train, max_cells, seed)
    batches = [embed(split.images[start : start + _BATCH_SIZE]) for start in range(0, len(split), _BATCH_SIZE)]
    features = np.concatenate(batches)
    feature_mean = features.mean(axis=0)
    return ReferenceIndex(
        np.ascontiguousarray(split.images), split.labels, dataset.class_names, dataset.provenance.title,
        trained_on, _normalize_rows(features - feature_mean), feature_mean,
    )  # fmt: skip


def _normalize_rows(features: Float32Array) -> Float32Array:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(length, 1e-12), dtype=np.float32)
