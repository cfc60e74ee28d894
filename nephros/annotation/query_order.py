"""Which cells to label next: those whose labels say most about many other cells that the head is not sure of.

Uncertainty herding (Bae, Oliveira and Sutherland, ICLR 2025) chooses cells one after the other, so that the cells which the
labeled ones do not cover yet are covered, each counted by its uncertainty. With few labels all cells are uncertain, and it
takes typical cells of every kind; with many, it takes cells near the boundaries of classes, of different kinds each. On classes
that the network had not seen it needed fewer labels than the smallest margin, and than random order where the network's features
tell the classes apart (docs/results/annotation.md).
"""

from __future__ import annotations

import heapq
import threading

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.model_state import Float32s, Int64s, ModelState

FRONT_CELLS = 60
"""Cells at the front of the order that are chosen one after the other: about what a gallery shows at once."""
N_TARGETS = 2000
"""Cells, drawn at random, that are to be covered."""
N_CANDIDATES = 2000
"""Cells to choose from: half by the smallest margin, the others at random."""
KERNEL_SCALE = 1.0
"""Squared width of the kernel, in units of the median squared distance to the nearest labeled cell."""


class QueryOrderCache:
    """The order of the latest state, computed once: pages ask for it again when only the figures have changed.

    May be called from several threads; while one computes it, the others wait for the same order.
    """

    def __init__(self) -> None:
        """Compute nothing yet."""
        self._lock = threading.Lock()
        self._state: ModelState | None = None
        self._order: Int64s = np.zeros(0, np.int64)

    def __call__(self, state: ModelState) -> Int64s:
        """Return `query_order` of a state."""
        with self._lock:
            if self._state is None or not _same_queries(self._state, state):
                self._state, self._order = state, query_order(state)
            return self._order


def _same_queries(a: ModelState, b: ModelState) -> bool:
    """Return whether two states have the same order: states never change, so what they share need not be compared."""
    return a.labels is b.labels and a.probabilities is b.probabilities and a.space is b.space


def query_order(state: ModelState, n_front: int = FRONT_CELLS) -> Int64s:
    """Return all cells (n,), those to label next first: chosen ones, then by margin; labeled ones last.

    The head's margin is the probability of the most probable class minus that of the second. Without a head, cells in the order
    of the project follow the first ones. Cells without features come before the labeled ones.
    """
    m = len(state.space)
    unlabeled = np.flatnonzero(state.labels[:m] < 0)
    labeled = np.flatnonzero(state.labels >= 0)
    waiting = m + np.flatnonzero(state.labels[m:] < 0)
    margins = state.margins if state.probabilities is not None else np.zeros(m, np.float32)
    ranked = unlabeled[np.argsort(margins[unlabeled], kind="stable")]
    front = choose_queries(state.space.unit, margins, labeled[labeled < m], ranked, n_front)
    is_front = np.zeros(m, np.bool_)
    is_front[front] = True
    return np.concatenate([front, ranked[~is_front[ranked]], waiting, labeled])


def choose_queries(unit_features: Float32s, margins: Float32s, labeled: Int64s, ranked: Int64s, k: int) -> Int64s:
    """Return up to k of the unlabeled cells, in the order in which to label them; the same arguments give the same cells.

    Args:
        unit_features: (n, d) of length 1, of all cells.
        margins: (n,) 0 to 1, 0 where the head is least sure.
        labeled: (l,) cells.
        ranked: (u,) unlabeled cells by margin, the smallest first.
        k: how many.
    """
    if not len(ranked):
        return ranked
    rng = np.random.default_rng(len(labeled))
    targets = rng.choice(len(unit_features), min(N_TARGETS, len(unit_features)), replace=False)
    n_random = min(N_CANDIDATES // 2, len(ranked))
    candidates = np.union1d(ranked[: N_CANDIDATES // 2], rng.choice(ranked, n_random, replace=False))
    x, y = unit_features[candidates], unit_features[targets]
    kernel = x @ y.T
    kernel *= -2
    kernel += 2  # squared distances, since both have length 1
    if len(labeled):
        to_labeled = np.maximum(2 - 2 * (y @ unit_features[labeled].T).max(axis=1), 0)
        width = KERNEL_SCALE * max(float(np.median(to_labeled)), 1e-6)
        covered = np.exp(-to_labeled / width)
    else:
        width = KERNEL_SCALE * max(float(np.median(kernel)), 1e-6)
        covered = np.zeros(len(targets), np.float32)
    kernel /= -width
    np.exp(kernel, out=kernel)
    return candidates[greedy_cover(kernel, covered, 1 - margins[targets], k)]


def greedy_cover(kernel: Float32s, covered: Float32s, weights: Float32s, k: int) -> NDArray[np.int64]:
    """Return up to k rows of `kernel` (c, t), each of which adds most to the weighted cover of the t columns.

    The cover of a column is the largest of `covered` (t,) and of the chosen rows there. A row adds less the more others are
    chosen, so that a former gain bounds the present one, and few have to be computed again (Minoux 1978).
    """
    gains = kernel - covered
    np.maximum(gains, 0, out=gains)
    heap = [(-gain, row) for row, gain in enumerate((gains @ weights).tolist())]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and len(chosen) < k:
        _, row = heapq.heappop(heap)
        gain = float(np.maximum(kernel[row] - covered, 0) @ weights)
        if heap and gain < -heap[0][0] - 1e-9:
            heapq.heappush(heap, (-gain, row))
            continue
        chosen.append(row)
        covered = np.maximum(covered, kernel[row])
    return np.array(chosen, np.int64)
