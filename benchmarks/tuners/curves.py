"""The best validation accuracy so far, against epochs spent or seconds, of one run and of several seeds together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.tuners.run import Record

Floats = NDArray[np.float64]


def best_so_far(record: Record) -> tuple[Floats, Floats, Floats]:
    """Return the epochs spent, the seconds, and the best value so far, at the end of each epoch of a run in order."""
    seconds = np.array([event.seconds for event in record.events])
    values = np.array([-np.inf if event.value is None else event.value for event in record.events])
    return np.arange(1, len(values) + 1, dtype=np.float64), seconds, np.maximum.accumulate(values)


def at(xs: Floats, best: Floats, where: Floats | float) -> Floats:
    """Return the best value once `where` of `xs` has been spent; NaN before the first epoch's end."""
    places = np.searchsorted(xs, np.asarray(where, dtype=np.float64), side="right")
    padded: Floats = np.concatenate([[np.nan], best])
    return padded[places]


def reaches(xs: Floats, best: Floats, value: float) -> float | None:
    """Return how much of `xs` it took to reach a value; None when it was not reached."""
    found = np.flatnonzero(best >= value)
    return float(xs[found[0]]) if len(found) else None


def together(curves: list[tuple[Floats, Floats]], grid: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the median, least and greatest of the seeds' best values along a grid, NaN until every seed has one."""
    values = np.stack([at(xs, best, grid) for xs, best in curves])
    return np.median(values, axis=0), values.min(axis=0), values.max(axis=0)
