"""What the model knows of a project's cells at one moment: labels, predictions, and how far both can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.agreement import disagreeing_cells
from nephros.annotation.head_review import HeadReview
from nephros.evaluation.calibration import prediction_sets
from nephros.finetuning.head import LinearHead

COVERAGE = 0.9
"""Probability with which a prediction set shall contain the class that an annotator would choose."""
OOD_THRESHOLD = 1.0

Int64s = NDArray[np.int64]
Float32s = NDArray[np.float32]


@dataclass(frozen=True)
class FeatureSpace:
    """Features of the first m cells of a project, on one scale; they never change, but cells are added to them."""

    features: Float32s
    """(m, d) of the network."""
    ood: Float32s
    """(m,) out-of-distribution scores; above 1, a cell is out of distribution."""

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def _mean_and_scale(self) -> tuple[Float32s, Float32s]:
        std = self.features.std(axis=0)
        return self.features.mean(axis=0), np.where(std > 1e-8, std, np.inf).astype(np.float32)

    def standardize(self, features: Float32s) -> Float32s:
        """Return (k, d) features on the scale of the cells: mean 0 and variance 1; features that never vary are 0."""
        mean, scale = self._mean_and_scale
        return (features - mean) / scale

    @cached_property
    def standardized(self) -> Float32s:
        """(m, d) standardized features of the cells."""
        return self.standardize(self.features) if len(self) else self.features

    @cached_property
    def unit(self) -> Float32s:
        """(m, d) standardized features, scaled to length 1."""
        length = np.linalg.norm(self.standardized, axis=1, keepdims=True)
        return np.asarray(self.standardized / np.maximum(length, 1e-12), np.float32)

    def similarity(self, cell: int) -> Float32s:
        """Return the (m,) cosine similarities of all cells to one: 1 for the same direction, 0 for unrelated."""
        similarity: Float32s = self.unit @ self.unit[cell]
        return similarity


@dataclass(frozen=True)
class ModelState:
    """Labels and predictions of n cells, of which the first m have features. It never changes; new labels make a new one."""

    revision: int
    n_cells: int
    labels: Int64s
    """(n,) class id by the latest change of anyone, -1 for none."""
    last_change: Int64s
    """(n,) number of the latest change of a label, 0 for none."""
    labels_by_annotator: dict[str, Int64s]
    """(n,) of each annotator."""
    space: FeatureSpace
    class_ids: tuple[int, ...] = ()
    """Classes with labels, the columns of the head."""
    head: LinearHead | None = None
    """None while fewer than two classes have labels."""
    probabilities: Float32s | None = None
    """(m, classes) of the head."""
    review: HeadReview | None = None
    """Of the head, or of an earlier one until it is done; None while labels are too few."""
    has_current_review: bool = False
    positions: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    """(n,) rank of each cell by file, and row or id in it."""
    label_revision: int = -1
    """`LabelStore.revision` of the labels in it."""

    @property
    def n_labels(self) -> int:
        """Number of labeled cells."""
        return int((self.labels >= 0).sum())

    def labels_of(self, annotator: str) -> Int64s:
        """Return the labels (n,) of an annotator, -1 for none."""
        labels = self.labels_by_annotator.get(annotator)
        return np.full(self.n_cells, -1, np.int64) if labels is None else labels

    @cached_property
    def predicted(self) -> Int64s:
        """(n,) id of the most probable class, -1 without a prediction."""
        predicted = np.full(self.n_cells, -1, np.int64)
        if self.probabilities is not None:
            predicted[: len(self.probabilities)] = np.array(self.class_ids)[self.probabilities.argmax(axis=1)]
        return predicted

    @cached_property
    def margins(self) -> Float32s:
        """(m,) probability of the most probable class minus that of the second; (0,) without predictions."""
        if self.probabilities is None:
            return np.zeros(0, np.float32)
        two = np.partition(self.probabilities, -2, axis=1)[:, -2:]
        return np.asarray(two[:, 1] - two[:, 0], np.float32)

    def sets_of(self, rows: NDArray[np.int64] | slice) -> NDArray[np.bool_]:
        """Return (k, classes) whether each class is in the prediction set of rows below m; all are, until a review is done."""
        assert self.probabilities is not None
        probabilities = self.probabilities[rows]
        if self.review is None:
            return np.ones(probabilities.shape, dtype=np.bool_)
        return prediction_sets(probabilities, self.review.quantiles, COVERAGE)

    @cached_property
    def is_unsure(self) -> NDArray[np.bool_]:
        """(n,) whether a cell's prediction set has other than one class; cells without a prediction are unsure."""
        unsure = np.ones(self.n_cells, dtype=np.bool_)
        if self.probabilities is not None:
            unsure[: len(self.probabilities)] = self.sets_of(slice(None)).sum(axis=1) != 1
        return unsure

    @cached_property
    def is_ood(self) -> NDArray[np.bool_]:
        """(n,) whether a cell is unlike those that the network's weights were trained on."""
        ood = np.zeros(self.n_cells, dtype=np.bool_)
        ood[: len(self.space)] = self.space.ood > OOD_THRESHOLD
        return ood

    @cached_property
    def disagrees(self) -> NDArray[np.bool_]:
        """(n,) whether two annotators gave a cell different classes."""
        return disagreeing_cells(self.labels_by_annotator, self.n_cells)
