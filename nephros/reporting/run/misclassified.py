"""Which cells to show: for each class its most confident mistakes, each between cells that were called rightly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.evaluation.scoring import Evaluation


@dataclass(frozen=True)
class ScoredCell:
    """A cell of the split and what was said of it."""

    index: int
    """Place in the split, in file order."""
    actual: int
    predicted: int
    confidence: float
    """Probability of the class that it was called."""
    actual_probability: float
    """Probability of its actual class."""

    @property
    def is_correct(self) -> bool:
        """Whether it was called what it is."""
        return self.actual == self.predicted


@dataclass(frozen=True)
class MisclassifiedCell:
    """The course report's picture: a cell of the class that was answered, the mistaken cell, a cell of its actual class."""

    predicted_example: ScoredCell
    cell: ScoredCell
    actual_example: ScoredCell


def most_confident_correct(evaluation: Evaluation, class_index: int, limit: int) -> list[ScoredCell]:
    """Return the cells of class `class_index` that were called rightly with most confidence, the surest first.

    Where none was, the cells of that class whose own class got the highest probability; where the split lacks the class,
    nothing.
    """
    scores = evaluation.probabilities[:, class_index]
    members = np.flatnonzero(evaluation.labels == class_index)
    correct = members[evaluation.probabilities[members].argmax(axis=1) == class_index]
    return [_scored_cell(evaluation, int(i)) for i in _top_indices(correct if len(correct) else members, scores, limit)]


def most_confident_errors(evaluation: Evaluation, class_index: int, limit: int = 3) -> list[MisclassifiedCell]:
    """Return up to `limit` triptychs of cells of class `class_index` that were called something else with most confidence.

    Row k stands between the k-th surest cells of the two classes, so that rows differ. Mistakes whose predicted class
    the split lacks have no cell to stand beside, and are passed over.
    """
    predicted = evaluation.probabilities.argmax(axis=1)
    present = np.isin(predicted, evaluation.labels)
    errors = np.flatnonzero((evaluation.labels == class_index) & (predicted != class_index) & present)
    rows = []
    for k, index in enumerate(_top_indices(errors, evaluation.probabilities.max(axis=1), limit)):
        cell = _scored_cell(evaluation, int(index))
        predicted_example, actual_example = (
            _pick_example(most_confident_correct(evaluation, c, limit + 1), cell, k)
            for c in (cell.predicted, class_index)
        )
        if actual_example.index == cell.index:  # the only cell of a class none of which was called rightly
            actual_example = next(
                (
                    _scored_cell(evaluation, int(i))
                    for i in np.flatnonzero(evaluation.labels == class_index)
                    if i != index
                ),
                actual_example,
            )
        rows.append(MisclassifiedCell(predicted_example, cell, actual_example))
    return rows


def _pick_example(candidates: list[ScoredCell], error: ScoredCell, k: int) -> ScoredCell:
    others = [cell for cell in candidates if cell.index != error.index] or candidates
    return others[k % len(others)]


def _top_indices(indices: NDArray[np.int64], scores: NDArray[np.float64], limit: int) -> NDArray[np.int64]:
    return indices[np.argsort(-scores[indices], kind="stable")[:limit]]


def _scored_cell(evaluation: Evaluation, index: int) -> ScoredCell:
    probabilities = evaluation.probabilities[index]
    actual, predicted = int(evaluation.labels[index]), int(probabilities.argmax())
    return ScoredCell(index, actual, predicted, float(probabilities[predicted]), float(probabilities[actual]))
