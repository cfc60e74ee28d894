"""The best validation accuracy so far by epochs spent or seconds, of one run or over several seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.tuners.run import TunerRun

Floats = NDArray[np.float64]


def best_so_far(record: TunerRun) -> tuple[Floats, Floats, Floats]:
    """Return the epochs spent, the seconds and the best value so far at the end of each epoch of a run, in order."""
    seconds = np.array([event.seconds for event in record.events])
    values = np.array([-np.inf if event.value is None else event.value for event in record.events])
    return np.arange(1, len(values) + 1, dtype=np.float64), seconds, np.maximum.accumulate(values)


def value_at(xs: Floats, best: Floats, budgets: Floats | float) -> Floats:
    """Return the best value once `budgets` of `xs` is spent; NaN before the end of the first epoch."""
    positions = np.searchsorted(xs, np.asarray(budgets, dtype=np.float64), side="right")
    padded: Floats = np.concatenate([[np.nan], best])
    return padded[positions]


def cost_to_reach(xs: Floats, best: Floats, target: float) -> float | None:
    """Return how much of `xs` was spent to reach `target`; None when it was not reached."""
    indices = np.flatnonzero(best >= target)
    return float(xs[indices[0]]) if len(indices) else None


def median_and_range(curves: list[tuple[Floats, Floats]], grid: Floats) -> tuple[Floats, Floats, Floats]:
    """Return median, minimum and maximum of the seeds' best values along `grid`; NaN until every seed has one."""
    values = np.stack([value_at(xs, best, grid) for xs, best in curves])
    return np.median(values, axis=0), values.min(axis=0), values.max(axis=0)
