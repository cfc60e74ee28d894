"""Similar cells: the labeled reference cells that are nearest by the network's features."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.array_types import Float32Array
from nephros.data.dataset import Dataset
from nephros.data.subset import stratified_subset
from nephros.errors import IncompatibleError
from nephros.inference.prediction_batch import PredictionBatch
from nephros.inference.predictor import Predictor

logger = logging.getLogger(__name__)

MAX_REFERENCE_CELLS = 5000
"""Number of reference cells; every class has the same share as in the data."""
_BATCH_SIZE = 256


@dataclass(frozen=True)
class ReferenceIndex:
    """Labeled cells with their features, for nearest-neighbor search by cosine similarity."""

    images: NDArray[np.uint8]
    """(n, h, w) or (n, h, w, 3)."""
    labels: NDArray[np.int64]
    """(n,)."""
    class_names: tuple[str, ...]
    title: str
    """Title of the data, such as ``TissueMNIST, official split``."""
    data_sha256: str
    """Of the data."""
    trained_on: bool
    """Whether the model was trained on this data."""
    unit_features: Float32Array
    """(n, d), centered at `feature_mean` and of length 1."""
    feature_mean: Float32Array
    """(d,)."""

    def __len__(self) -> int:
        return len(self.labels)

    def nearest(self, features: Float32Array, k: int) -> tuple[NDArray[np.int64], Float32Array]:
        """Return the k nearest reference cells of (m, d) features: indices (m, k), nearest first, and similarities (m, k).

        The similarity is the cosine of the angle between the centered features: 1 for the same direction, 0 for unrelated.
        """
        similarity = _normalize_rows(features - self.feature_mean) @ self.unit_features.T
        k = min(k, len(self))
        indices = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(similarity, indices, axis=1), axis=1, kind="stable")
        indices = np.take_along_axis(indices, order, axis=1)
        return indices, np.take_along_axis(similarity, indices, axis=1)


def build_reference_index(
    predictor: Predictor, dataset: Dataset, max_cells: int = MAX_REFERENCE_CELLS
) -> ReferenceIndex:
    """Return an index of a class-stratified sample of the training cells of `dataset`; its test split is not read.

    Raises IncompatibleError if the cells don't have the model's input shape, or the model has no features.
    """
    channels, height, width = predictor.input_shape
    if (dataset.channels, *dataset.image_size) != predictor.input_shape:
        data_height, data_width = dataset.image_size
        raise IncompatibleError(
            f"The images of {dataset.provenance.name} have {dataset.channels} channels and {data_height}x{data_width} pixels, "
            f"but the model takes {channels} and {height}x{width}: choose other `reference_data`, or none."
        )
    n_cells = min(max_cells, len(dataset.train))
    logger.info("computing the features of %s reference cells of %s", f"{n_cells:,}", dataset.provenance.title)
    embed = embed_by(predictor.predict_batch)
    return sample_reference_index(embed, dataset, max_cells, _was_trained_on(predictor, dataset.provenance.sha256))


def embed_by(
    predict_batch: Callable[[NDArray[np.uint8]], PredictionBatch],
) -> Callable[[NDArray[np.uint8]], Float32Array]:
    """Return a function that gives the (n, d) features of cells; it raises IncompatibleError for a model that has none."""

    def embed(cells: NDArray[np.uint8]) -> Float32Array:
        features = predict_batch(cells).features
        if features is None:
            raise IncompatibleError(
                "The model has no features, like all classical baselines, so it can't find similar cells: "
                "set `reference_data` to none."
            )
        return features

    return embed


def sample_reference_index(
    embed: Callable[[NDArray[np.uint8]], Float32Array], dataset: Dataset, max_cells: int, trained_on: bool
) -> ReferenceIndex:
    """Return an index of at most `max_cells` training cells, with the (n, d) features that `embed` gives for (n, h, w[, 3])."""
    split = dataset.train if len(dataset.train) <= max_cells else stratified_subset(dataset.train, max_cells, 0)
    images = np.ascontiguousarray(split.images)
    return ReferenceIndex(
        images,
        split.labels,
        dataset.class_names,
        dataset.provenance.title,
        dataset.provenance.sha256,
        trained_on,
        *_center(_embed_all(embed, images)),
    )


def index_for_model(
    index: ReferenceIndex, predictor: Predictor, embed: Callable[[NDArray[np.uint8]], Float32Array]
) -> ReferenceIndex | None:
    """Return an index of the same cells by another model's features; None if the cells don't have its input shape, or it has no
    features."""
    channels, height, width = predictor.input_shape
    shape = (height, width) if channels == 1 else (height, width, channels)
    if index.images.shape[1:] != shape:
        return None
    try:
        unit_features, mean = _center(_embed_all(embed, index.images))
    except IncompatibleError:
        return None
    trained_on = _was_trained_on(predictor, index.data_sha256)
    return dataclasses.replace(index, trained_on=trained_on, unit_features=unit_features, feature_mean=mean)


def _was_trained_on(predictor: Predictor, data_sha256: str) -> bool:
    return bool(predictor.card["data"]["sha256"] == data_sha256)


def _embed_all(embed: Callable[[NDArray[np.uint8]], Float32Array], images: NDArray[np.uint8]) -> Float32Array:
    return np.concatenate([embed(images[start : start + _BATCH_SIZE]) for start in range(0, len(images), _BATCH_SIZE)])


def _center(features: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Return the (n, d) features, centered and of length 1, and their mean (d,)."""
    mean = features.mean(axis=0)
    return _normalize_rows(features - mean), mean


def _normalize_rows(features: Float32Array) -> Float32Array:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(length, 1e-12), dtype=np.float32)
