"""Choice of the cells to show: each class's most confident errors, beside correctly classified cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.evaluation.scoring import Evaluation


@dataclass(frozen=True)
class ScoredCell:
    """A cell of the split and its prediction."""

    index: int
    """Position in the split, in file order."""
    actual: int
    predicted: int
    confidence: float
    """Probability of its predicted class."""
    actual_probability: float
    """Probability of its actual class."""

    @property
    def is_correct(self) -> bool:
        """Whether the prediction is right."""
        return self.actual == self.predicted


@dataclass(frozen=True)
class MisclassifiedCell:
    """A triptych, as in the course report: a cell of the predicted class, the misclassified cell, a cell of its actual class."""

    predicted_example: ScoredCell
    cell: ScoredCell
    actual_example: ScoredCell


def most_confident_correct(evaluation: Evaluation, class_index: int, limit: int) -> list[ScoredCell]:
    """Return the correctly classified cells of a class, by falling confidence, up to `limit`.

    If there are none, the cells of the class that gave it the highest probability; if the split lacks the class, nothing.
    """
    scores = evaluation.probabilities[:, class_index]
    members = np.flatnonzero(evaluation.labels == class_index)
    correct = members[evaluation.probabilities[members].argmax(axis=1) == class_index]
    return [_scored_cell(evaluation, int(i)) for i in _top_indices(correct if len(correct) else members, scores, limit)]


def most_confident_errors(evaluation: Evaluation, class_index: int, limit: int = 3) -> list[MisclassifiedCell]:
    """Return triptychs of the most confident errors on cells of a class, up to `limit`.

    Row k shows the k-th most confident cells of the two classes, so that rows differ. Errors whose predicted class the split
    lacks are skipped, because there is no cell to show beside them.
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
        if actual_example.index == cell.index:  # the best cell of a class without correct predictions
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
