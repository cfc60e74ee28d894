"""Which cells to show: for each class its most confident mistakes, each between cells that were called rightly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.evaluation.scoring import Evaluation


@dataclass(frozen=True)
class Shown:
    """A cell of the split and what was said of it."""

    index: int
    """Place in the split, in file order."""
    actual: int
    called: int
    confidence: float
    """Probability of the class that it was called."""
    of_actual: float
    """Probability of its actual class."""

    @property
    def right(self) -> bool:
        """Whether it was called what it is."""
        return self.actual == self.called


@dataclass(frozen=True)
class Triptych:
    """The course report's picture: a cell of the class that was answered, the mistaken cell, a cell of its actual class."""

    predicted: Shown
    mistake: Shown
    actual: Shown


def exemplars(evaluation: Evaluation, of: int, most: int) -> list[Shown]:
    """Return the cells of class `of` that were called rightly with most confidence, the surest first.

    Where none was, the cells of that class whose own class got the highest probability; where the split lacks the class,
    nothing.
    """
    scores = evaluation.probabilities[:, of]
    members = np.flatnonzero(evaluation.labels == of)
    right = members[evaluation.probabilities[members].argmax(axis=1) == of]
    return [_shown(evaluation, int(i)) for i in _highest(right if len(right) else members, scores, most)]


def mistakes(evaluation: Evaluation, of: int, most: int = 3) -> list[Triptych]:
    """Return up to `most` triptychs of cells of class `of` that were called something else with most confidence.

    Row k stands between the k-th surest cells of the two classes, so that rows differ. Mistakes whose predicted class
    the split lacks have no cell to stand beside, and are passed over.
    """
    called = evaluation.probabilities.argmax(axis=1)
    present = np.isin(called, evaluation.labels)
    wrong = np.flatnonzero((evaluation.labels == of) & (called != of) & present)
    rows = []
    for k, index in enumerate(_highest(wrong, evaluation.probabilities.max(axis=1), most)):
        mistake = _shown(evaluation, int(index))
        predicted, actual = (_beside(exemplars(evaluation, c, most + 1), mistake, k) for c in (mistake.called, of))
        if actual.index == mistake.index:  # the only cell of a class none of which was called rightly
            actual = next(
                (_shown(evaluation, int(i)) for i in np.flatnonzero(evaluation.labels == of) if i != index), actual
            )
        rows.append(Triptych(predicted, mistake, actual))
    return rows


def _beside(found: list[Shown], mistake: Shown, k: int) -> Shown:
    others = [cell for cell in found if cell.index != mistake.index] or found
    return others[k % len(others)]


def _highest(pool: NDArray[np.int64], scores: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    return pool[np.argsort(-scores[pool], kind="stable")[:most]]


def _shown(evaluation: Evaluation, index: int) -> Shown:
    row = evaluation.probabilities[index]
    actual, called = int(evaluation.labels[index]), int(row.argmax())
    return Shown(index, actual, called, float(row[called]), float(row[actual]))
