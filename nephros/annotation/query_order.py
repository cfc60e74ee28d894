"""Which cells to label next: active learning over the features of all cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.model_state import Float32s, Int64s, ModelState

FRONT_CELLS = 60
"""Cells at the front of the order that are chosen to differ from one another: about what a gallery shows at once."""
CANDIDATES_PER_CELL = 10


def query_order(state: ModelState) -> Int64s:
    """Return all cells (n,), those to label next first, labeled ones last, cells without features before them."""
    m = len(state.space)
    unlabeled = np.flatnonzero(state.labels[:m] < 0)
    rest = np.concatenate([np.arange(m, state.n_cells), np.flatnonzero(state.labels[:m] >= 0)])
    waiting = rest[state.labels[rest] < 0]
    labeled = rest[state.labels[rest] >= 0]
    if state.probabilities is None:
        front = farthest_first(state.space.standardized, np.flatnonzero(state.labels[:m] >= 0), unlabeled, FRONT_CELLS)
        ranked = np.concatenate([front, np.setdiff1d(unlabeled, front)])
    else:
        by_margin = unlabeled[np.argsort(state.margins[unlabeled], kind="stable")]
        candidates = by_margin[: FRONT_CELLS * CANDIDATES_PER_CELL]
        front = farthest_first(state.space.standardized, candidates[:1], candidates[1:], FRONT_CELLS - 1)
        front = np.concatenate([candidates[:1], front])
        is_front = np.zeros(m, np.bool_)
        is_front[front] = True
        ranked = np.concatenate([front, by_margin[~is_front[by_margin]]])
    return np.concatenate([ranked, waiting, labeled])


def farthest_first(features: Float32s, chosen: Int64s, candidates: Int64s, k: int) -> Int64s:
    """Return up to k of `candidates`, each the farthest from those chosen before (Gonzalez 1985); without any, from the mean.

    Args:
        features: (n, d) of all cells.
        chosen: (c,) cells from which the first one shall be far.
        candidates: (m,) cells.
        k: how many.
    """
    x = features[candidates]
    if not len(candidates):
        return candidates
    distance = _squared_distances(x, features[chosen] if len(chosen) else features.mean(axis=0, keepdims=True))
    picks = []
    for _ in range(min(k, len(candidates))):
        pick = int(distance.argmax())
        picks.append(pick)
        distance = np.minimum(distance, ((x - x[pick]) ** 2).sum(axis=1))
        distance[pick] = -1
    return candidates[picks]


def _squared_distances(x: Float32s, others: Float32s) -> NDArray[np.float32]:
    """Return (n,) squared distances of (n, d) rows to the nearest of (k, d) others."""
    nearest = np.full(len(x), np.inf, np.float32)
    for start in range(0, len(others), 256):
        part = others[start : start + 256]
        products = x @ part.T
        nearest = np.minimum(nearest, ((part**2).sum(axis=1) - 2 * products).min(axis=1))
    return np.asarray(np.maximum(nearest + (x**2).sum(axis=1), 0), np.float32)
