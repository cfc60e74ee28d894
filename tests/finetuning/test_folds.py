"""Folds: every image held out once, classes in all of them, groups in one piece."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.errors import IncompatibleError, InvalidArgument
from nephros.finetuning.folds import make_folds

NAMES = ("a", "b", "c")


def _labels(*counts: int) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(counts)), counts).astype(np.int64)


@pytest.mark.parametrize(
    ("counts", "n_folds", "expected"), [((20, 20, 20), 5, 5), ((20, 3, 50), 5, 3), ((2, 2, 2), 5, 2)]
)
def test_every_image_is_held_out_once_with_every_class_to_learn_from(
    counts: tuple[int, ...], n_folds: int, expected: int
) -> None:
    labels = _labels(*counts)
    folds = make_folds(labels, NAMES, None, n_folds, seed=0)
    assert (len(folds), folds.by_group) == (expected, False)
    assert sorted(np.concatenate(folds.held_out)) == list(range(len(labels)))
    for train, held_out in folds.splits():
        assert not set(train) & set(held_out)
        assert set(labels[train]) == {0, 1, 2}
        assert len(held_out) > 0


def test_seeds_of_any_size_draw_folds() -> None:
    labels = _labels(6, 6, 6)
    for seed in (2**32, 2**63 - 1):
        assert len(make_folds(labels, NAMES, None, 3, seed=seed)) == 3


def test_groups_stay_together() -> None:
    labels = np.tile(_labels(3, 3, 3), 6)
    groups = np.repeat([f"stack {i}" for i in range(6)], 9)
    folds = make_folds(labels, NAMES, groups, 4, seed=1)
    assert folds.by_group
    assert len(folds) == 4
    for train, held_out in folds.splits():
        assert not set(groups[train]) & set(groups[held_out])
    again = make_folds(labels, NAMES, groups, 4, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(folds.held_out, again.held_out, strict=True))


@pytest.mark.parametrize(
    ("labels", "groups", "names"),
    [
        (_labels(5, 1, 5), None, ("The class b", "a single training image")),
        (_labels(5, 5, 0), None, ("The class c", "no training image")),
        (_labels(4, 4, 4), np.repeat(["x", "y", "x"], 4), ("The class a", "a single training group")),
    ],
)
def test_a_class_that_can_not_be_held_out_is_named(
    labels: NDArray[np.int64], groups: NDArray[np.str_] | None, names: tuple[str, ...]
) -> None:
    with pytest.raises(IncompatibleError) as exc_info:
        make_folds(labels, NAMES, groups, 3, seed=0)
    assert all(name in str(exc_info.value) for name in names)


@pytest.mark.parametrize(
    ("n_folds", "groups", "parameter"),
    [(1, None, "folds"), (0, None, "folds"), (3, np.array(["x"] * 5), "groups"), (3, np.array(["x"] * 12), "groups")],
)
def test_impossible_folds_are_refused(n_folds: int, groups: NDArray[np.str_] | None, parameter: str) -> None:
    with pytest.raises(InvalidArgument) as exc_info:
        make_folds(_labels(4, 4, 4), NAMES, groups, n_folds, seed=0)
    assert exc_info.value.parameter == parameter
