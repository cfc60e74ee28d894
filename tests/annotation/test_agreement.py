"""Cohen's kappa, and the cells that two annotators see differently."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from nephros.annotation.agreement import cohen_kappa, compare_annotators, disagreeing_cells


def test_kappa_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.integers(0, 4, (2, 30))
        assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_kappa_without_cells_or_with_one_class_is_none() -> None:
    ones = np.ones(5, np.int64)
    assert cohen_kappa(ones[:0], ones[:0]) is None
    assert cohen_kappa(ones, ones) is None
    assert cohen_kappa(ones, np.array([1, 1, 1, 1, 2])) == 0


def test_only_cells_that_both_labeled_count() -> None:
    labels = {
        "Ann": np.array([0, 1, 1, -1, 2, -1]),
        "Bob": np.array([0, 1, 0, 1, -1, -1]),
        "Eve": np.array([-1, -1, -1, -1, -1, 0]),
    }
    (pair,) = compare_annotators(labels)
    assert (pair.a, pair.b, pair.n_both, pair.n_disagree) == ("Ann", "Bob", 3, 1)
    assert disagreeing_cells(labels, 6).tolist() == [False, False, True, False, False, False]
    assert disagreeing_cells({}, 2).tolist() == [False, False]
