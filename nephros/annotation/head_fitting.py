"""The head of a project: fitted after each label, from where the last one ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from nephros.annotation.head_review import HeadReview, review_head
from nephros.annotation.model_state import Float32s, Int64s, ModelState
from nephros.finetuning.head import LinearHead, fit_head

HEAD_C = 0.1
"""Inverse strength of the regularization. On classes that the network had not seen it is the best, or within a point of it,
from 20 labels to 2,000 on TissueMNIST's train and validation cells; chosen anew each time, it would make the order jump."""


def fit_state(state: ModelState, previous: ModelState) -> ModelState:
    """Return a state with the head of its labels and predictions for all cells that have features.

    The solver begins at the previous state's head where the classes are the same, and the review stays that of the previous head
    until there is a new one.
    """
    cells = labeled_cells(state)
    class_ids = tuple(np.unique(state.labels[cells]).tolist())
    if len(class_ids) < 2:
        return state
    columns = np.searchsorted(class_ids, state.labels[cells]).astype(np.int64)
    is_similar = previous.class_ids == class_ids and previous.space is state.space
    head = fit_head(
        state.space.standardized[cells],
        columns,
        len(class_ids),
        HEAD_C,
        start=previous.head if is_similar else None,
        is_standardized=True,
    )
    return dataclasses.replace(
        state,
        class_ids=class_ids,
        head=head,
        probabilities=_predict(head, state.space.standardized),
        review=previous.review if previous.class_ids == class_ids else None,
    )


def review_state(state: ModelState, is_stale: Callable[[], bool]) -> HeadReview | None:
    """Return what cross-validation says of a state's labels; None where they are too few or `is_stale` becomes true.

    It begins at the heads of the review that the state has, which is an earlier one.
    """
    cells = labeled_cells(state)
    columns = np.searchsorted(state.class_ids, state.labels[cells]).astype(np.int64)
    return review_head(state.space.standardized[cells], columns, cells, state.class_ids, HEAD_C, is_stale, state.review)


def labeled_cells(state: ModelState) -> Int64s:
    """Return the labeled cells that have features, in the order in which they were labeled."""
    cells = np.flatnonzero(state.labels[: len(state.space)] >= 0)
    return cells[np.argsort(state.last_change[cells], kind="stable")]


def _predict(head: LinearHead, features: Float32s) -> Float32s:
    """Return the (n, classes) probabilities of (n, d) features, in single precision, which ranks as well in half the time."""
    logits = features @ head.weight.T.astype(np.float32) + head.bias.astype(np.float32)
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits
