"""Which classes a model confuses, and which it never predicts, from its confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nephros.evaluation.intervals import wilson_interval


@dataclass(frozen=True)
class Confusion:
    """Images of one class that are predicted as another."""

    actual: int
    predicted: int
    count: int
    support: int
    """Images of the actual class."""

    @property
    def share(self) -> float:
        """Share of the actual class's images."""
        return self.count / self.support


def worst_confusions(matrix: Sequence[Sequence[int]], limit: int = 3) -> list[Confusion]:
    """Return the pairs of classes that are confused most, the worst first; fewer than `limit` where there are fewer.

    Pairs are ordered by the lower end of the 95% Wilson interval of their share, so that two errors on three images don't rank
    above a thousand on four thousand.

    Args:
        matrix: (classes, classes) counts; row = actual class, column = predicted class.
        limit: most pairs to return.
    """
    pairs = [
        Confusion(actual, predicted, count, sum(row))
        for actual, row in enumerate(matrix)
        for predicted, count in enumerate(row)
        if count and actual != predicted
    ]
    lower_bounds = {(pair.actual, pair.predicted): wilson_interval(pair.count, pair.support)[0] for pair in pairs}
    return sorted(pairs, key=lambda pair: (-lower_bounds[pair.actual, pair.predicted], -pair.count))[:limit]


def never_predicted(matrix: Sequence[Sequence[int]]) -> list[int]:
    """Return the classes that a model never predicts, in label order."""
    return [c for c in range(len(matrix)) if not any(row[c] for row in matrix)]
