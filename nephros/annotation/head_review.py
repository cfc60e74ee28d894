"""What held-out predictions of the head say: its accuracy, which labels look wrong, and how sure a prediction set can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.evaluation.calibration import conformal_quantiles
from nephros.evaluation.intervals import wilson_interval
from nephros.evaluation.metrics import Floats, Labels
from nephros.finetuning.folds import Folds, Indices
from nephros.finetuning.head import LinearHead, fit_head
from nephros.finetuning.label_review import suspicious_labels

N_FOLDS = 5
RECENT_LABELS = 40
"""Labels whose gain in accuracy is measured."""
MIN_LABELS = 10
"""Labels from which predictions are held out; fewer say nothing."""


@dataclass(frozen=True)
class ClassReview:
    """How well a class is recognized, in cross-validation."""

    class_id: int
    n_labels: int
    recall: float | None
    """None for a class with a single label, which can't be held out."""
    low: float
    """95% Wilson interval; 0 to 1 without a recall."""
    high: float


@dataclass(frozen=True)
class FoldHeads:
    """The heads of a cross-validation, each of which has seen all labels but those of its fold."""

    cells: Indices
    """(m,) labeled cells, in the order in which they were labeled."""
    labels: Labels
    """(m,) of them."""
    heads: tuple[LinearHead, ...]
    """Per fold."""
    heads_without_recent: tuple[LinearHead, ...]
    """Per fold, without the last RECENT_LABELS labels; none where that gain is not measured."""

    def has_seen_only(self, cells: Indices, labels: Labels) -> bool:
        """Return whether the former cells are the first of these, with the same labels: then the folds are the same too, and
        no head has seen a cell that its fold holds out."""
        m = len(self.cells)
        return (
            len(cells) >= m
            and int(labels.max()) == int(self.labels.max())
            and np.array_equal(cells[:m], self.cells)
            and np.array_equal(labels[:m], self.labels)
        )


@dataclass(frozen=True)
class HeadReview:
    """Cross-validation of a head on m labeled cells, each predicted by a head that did not see it."""

    cells: Indices
    """(m,) of the classes that have two labels or more."""
    accuracy: float
    low: float
    """95% Wilson interval."""
    high: float
    gain_of_recent: float | None
    """Accuracy minus that without the last RECENT_LABELS labels, on the same held-out cells; None with too few labels."""
    classes: tuple[ClassReview, ...]
    suspicious: tuple[int, ...]
    """Cells whose label looks wrong, the least probable label first."""
    quantiles: Floats
    """(1001,) of `nephros.evaluation.calibration.conformal_quantiles`, cross-conformal."""
    heads: FoldHeads
    """From which the next cross-validation begins."""


def review_head(
    features: NDArray[np.float32],
    labels: Labels,
    cells: Indices,
    class_ids: tuple[int, ...],
    C: float,
    is_stale: Callable[[], bool] = lambda: False,
    previous: HeadReview | None = None,
) -> HeadReview | None:
    """Return what cross-validation says of labels; None where they are too few, or `is_stale` becomes true meanwhile.

    Args:
        features: (n, d) standardized over all cells, in the order in which the cells were labeled.
        labels: (n,) index of each cell's class in `class_ids`.
        cells: (n,).
        class_ids: of the classes.
        C: of the head.
        is_stale: asked between fits.
        previous: an earlier review of a head for the same classes. Where its labels are the first of these, each fit begins
            at the head of the same fold, which changes the result only as far as the solver's tolerance.
    """
    n_classes = len(class_ids)
    rows, compact, n_kept = _frequent(labels, n_classes)
    if n_kept < 2 or len(rows) < MIN_LABELS:
        return None
    folds = _folds(compact, n_kept)
    is_recent = rows >= len(labels) - RECENT_LABELS
    measures_gain = len(np.unique(compact[~is_recent])) == n_kept and (~is_recent).sum() >= MIN_LABELS
    former = previous.heads if previous is not None and previous.heads.has_seen_only(cells[rows], compact) else None

    def validate(
        used: NDArray[np.bool_], starts: tuple[LinearHead, ...]
    ) -> tuple[Floats, tuple[LinearHead, ...]] | None:
        return _cross_validate(features[rows], compact, n_kept, folds, used, C, starts, is_stale)

    validated = validate(np.ones(len(rows), np.bool_), former.heads if former else ())
    if validated is None:
        return None
    probabilities, heads = validated
    is_right = probabilities.argmax(axis=1) == compact
    gain, heads_without_recent = None, tuple[LinearHead, ...]()
    if measures_gain:
        validated = validate(~is_recent, former.heads_without_recent if former else ())
        if validated is None:
            return None
        without_recent, heads_without_recent = validated
        gain = float(is_right.mean() - (without_recent.argmax(axis=1) == compact).mean())
    suspicious = suspicious_labels(probabilities, compact, tuple(map(str, range(n_kept))))
    return HeadReview(
        cells[rows],
        float(is_right.mean()),
        *wilson_interval(int(is_right.sum()), len(rows)),
        gain,
        _class_reviews(labels, rows, is_right, class_ids),
        tuple(int(cells[rows[label.index]]) for label in suspicious),
        conformal_quantiles(probabilities, compact),
        FoldHeads(cells[rows], compact, heads, heads_without_recent),
    )


def _cross_validate(
    features: NDArray[np.float32],
    labels: Labels,
    n_classes: int,
    folds: Folds,
    used: NDArray[np.bool_],
    C: float,
    starts: tuple[LinearHead, ...],
    is_stale: Callable[[], bool],
) -> tuple[Floats, tuple[LinearHead, ...]] | None:
    """Return the held-out probabilities (n, classes) of heads that are fitted to the `used` rows (n,) of the other folds, and
    these heads; None if `is_stale` becomes true."""
    starts = starts if len(starts) == len(folds) else ()
    probabilities, heads = np.empty((len(labels), n_classes)), list[LinearHead]()
    for k, (others, held_out) in enumerate(folds.splits()):
        if is_stale():
            return None
        train = others[used[others]]
        start = starts[k] if starts else None
        heads.append(fit_head(features[train], labels[train], n_classes, C, start=start, is_standardized=True))
        probabilities[held_out] = heads[k].predict(features[held_out][:, None])
    return probabilities, tuple(heads)


def _frequent(labels: Labels, n_classes: int) -> tuple[Indices, Labels, int]:
    """Return the rows of classes with two labels or more, their labels renumbered without gaps, and the number of classes."""
    counts = np.bincount(labels, minlength=n_classes)
    rows = np.flatnonzero(counts[labels] >= 2)
    numbers = np.cumsum(counts >= 2) - 1
    return rows, numbers[labels[rows]].astype(np.int64), int((counts >= 2).sum())


def _folds(labels: Labels, n_classes: int) -> Folds:
    """Return folds that deal the labels of each class out in turn, so that a new label moves no other one to another fold.

    Two labels of a class are in different folds, and so each fold's head has seen every class.
    """
    fold = np.empty(len(labels), np.int64)
    for label in range(n_classes):
        rows = np.flatnonzero(labels == label)
        fold[rows] = (np.arange(len(rows)) + label) % N_FOLDS
    parts = (np.flatnonzero(fold == k) for k in range(N_FOLDS))
    return Folds(tuple(part for part in parts if len(part)), False, len(labels))


def _class_reviews(
    labels: Labels, rows: Indices, is_right: NDArray[np.bool_], class_ids: tuple[int, ...]
) -> tuple[ClassReview, ...]:
    reviews = []
    for column, class_id in enumerate(class_ids):
        n, of_class = int((labels == column).sum()), is_right[labels[rows] == column]
        recall = float(of_class.mean()) if len(of_class) else None
        low, high = wilson_interval(int(of_class.sum()), len(of_class)) if len(of_class) else (0.0, 1.0)
        reviews.append(ClassReview(class_id, n, recall, low, high))
    return tuple(reviews)
