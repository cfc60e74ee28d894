"""A simulated annotator, who labels cells in the order of a rule; the labels are the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.head_fitting import fit_state
from nephros.annotation.model_state import FeatureSpace, ModelState
from nephros.annotation.query_order import query_order

RULES = ("nephros", "margin", "random")
"""nephros: the order of the page; margin: the two most probable classes differ least, after ten cells at random."""
N_RANDOM_FIRST = 10
SHARE_OF_FINAL = 0.95


def label_counts(last: int) -> list[int]:
    """Return after how many labels the head is evaluated: every 5 to 40, every 10 to 200, every 20 to 500, then every 50."""
    counts = [*range(5, 40, 5), *range(40, 200, 10), *range(200, 500, 20), *range(500, last + 1, 50)]
    return [count for count in counts if count <= last]


def simulate(
    rule: str,
    features: NDArray[np.float32],
    truth: NDArray[np.int64],
    held_out: tuple[NDArray[np.float32], NDArray[np.int64]],
    counts: Sequence[int],
    seed: int,
) -> list[float]:
    """Return the accuracy on held-out cells after each number of labels in `counts`.

    Args:
        rule: one of RULES.
        features: (n, d) of the cells to label.
        truth: (n,) their classes.
        held_out: features (m, d) and classes (m,) of other cells.
        counts: numbers of labels, ascending.
        seed: of what is random.
    """
    rng, n = np.random.default_rng(seed), len(features)
    space, none = FeatureSpace(features, np.zeros(n, np.float32)), np.zeros(n, np.int64)
    state = ModelState(0, n, np.full(n, -1, np.int64), none, {}, space)
    evaluated, classes = space.standardize(held_out[0])[:, None], held_out[1]
    accuracies = []
    for done, count in zip([0, *counts], counts, strict=False):
        cells = _next_cells(rule, state, count - done, rng)
        labels, last_change = state.labels.copy(), state.last_change.copy()
        labels[cells], last_change[cells] = truth[cells], np.arange(done + 1, count + 1)
        new = ModelState(count, n, labels, last_change, {}, space)
        state = fit_state(new, state)
        if state.head is None:
            predicted = np.full(len(classes), truth[cells[0]])
        else:
            predicted = np.array(state.class_ids)[state.head.predict(evaluated).argmax(axis=1)]
        accuracies.append(float((predicted == classes).mean()))
    return accuracies


def _next_cells(rule: str, state: ModelState, k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if rule == "nephros":
        return query_order(state, k)[:k]
    unlabeled = np.flatnonzero(state.labels < 0)
    if rule == "random" or state.n_labels < N_RANDOM_FIRST or state.probabilities is None:
        return rng.choice(unlabeled, k, replace=False)
    return unlabeled[np.argsort(state.margins[unlabeled], kind="stable")[:k]]


def labels_needed(accuracies: Sequence[float], counts: Sequence[int], target: float) -> int | None:
    """Return the number of labels from which the accuracy is at least `target` for the first time; None if it never is."""
    return next((count for count, value in zip(counts, accuracies, strict=True) if value >= target), None)
