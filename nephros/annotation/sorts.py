"""The orders in which a gallery shows cells."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.filters import Filters
from nephros.annotation.model_state import Int64s, ModelState
from nephros.annotation.query_order import query_order
from nephros.errors import InvalidArgument, UnknownName

SORTS = ("uncertainty", "ood", "similarity", "position", "probability", "suspicious", "recent")
"""uncertainty: the cells whose label would teach most first, labeled ones last; ood: the most unusual first; similarity: to a
chosen cell; position: by file, and row or id in it; probability: of a class, the highest first; suspicious: labels that look
wrong first, then those that the head finds least probable; recent: the latest label first. Cells that a sort can't place come
last."""


def order_cells(
    state: ModelState,
    sort: str,
    filters: Filters,
    *,
    class_id: int | None = None,
    to: int | None = None,
    descending: bool = False,
    query_order: Callable[[ModelState], Int64s] = query_order,
) -> NDArray[np.uint32]:
    """Return the cells that pass `filters`, (k,), in an order of SORTS, or the reverse of it where `descending`.

    Args:
        state: of the cells.
        sort: one of SORTS.
        filters: conditions.
        class_id: class of the sort ``probability``.
        to: cell of the sort ``similarity``.
        descending: reverses the order.
        query_order: the sort ``uncertainty``, such as with a cache.

    Raises:
        UnknownName: there is no such sort.
        InvalidArgument: the class or the cell is missing or doesn't exist.
    """
    if sort not in SORTS:
        raise UnknownName("sort", sort, SORTS)
    order = query_order(state) if sort == "uncertainty" else _full_order(state, sort, class_id, to)
    order = order[filters.mask(state)[order]]
    return (order[::-1] if descending else order).astype(np.uint32)


def _full_order(state: ModelState, sort: str, class_id: int | None, to: int | None) -> Int64s:
    if sort == "position":
        return np.argsort(state.positions, kind="stable")
    keys = np.full(state.n_cells, np.inf)
    m = len(state.space)
    if sort == "ood":
        keys[:m] = -state.space.ood
    elif sort == "similarity":
        if to is None or not 0 <= to < m:
            raise InvalidArgument("to", to, f"a cell that has features, from 0 to {m - 1}" if m else "left out yet")
        keys[:m] = -state.space.similarity(to)
    elif sort == "probability":
        keys[:m] = -_probability(state, class_id)
    elif sort == "recent":
        keys = np.where(state.labels >= 0, -state.last_change.astype(np.float64), np.inf)
    else:
        keys[:m] = _label_probability(state)
        if state.review is not None:
            suspicious = np.array(state.review.suspicious, np.int64)
            suspicious = suspicious[state.labels[suspicious] >= 0]
            keys[suspicious] = np.arange(len(suspicious)) - len(suspicious) - 1.0
    return np.argsort(keys, kind="stable")


def _probability(state: ModelState, class_id: int | None) -> NDArray[np.float64]:
    """Return (m,) probabilities of a class; of one without labels, 0."""
    if class_id is None:
        raise InvalidArgument("class_id", class_id, "the id of a class, whose probability sorts the cells")
    if state.probabilities is None or class_id not in state.class_ids:
        return np.zeros(len(state.space))
    return state.probabilities[:, state.class_ids.index(class_id)].astype(np.float64)


def _label_probability(state: ModelState) -> NDArray[np.float64]:
    """Return (m,) probability of each cell's own label, infinity for cells without one."""
    labels = state.labels[: len(state.space)]
    keys = np.where(labels >= 0, 1.0, np.inf)
    if state.probabilities is not None:
        for column, class_id in enumerate(state.class_ids):
            rows = labels == class_id
            keys[rows] = state.probabilities[rows, column]
    return keys
