"""Splits drawn by class and by group: what they hold together, and what can't be split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nephros.data.splitting import assign_splits, check_group_rule, grouped_split, stratified_split
from nephros.errors import FileError, InvalidArgument

NAMES = ("a", "b")


@pytest.mark.parametrize("n", range(3, 30))
def test_every_split_gets_an_image_of_every_class(n: int) -> None:
    counts = np.bincount(stratified_split(np.zeros(n, dtype=np.int64), 0), minlength=3)
    assert counts.min() >= 1
    assert np.abs(counts - n * np.array([0.7, 0.1, 0.2])).max() <= 1.1


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 11)), min_size=1, max_size=150),
    st.integers(0, 3),
    st.sampled_from([(7, 1, 2), (7, 1, 0), (7, 0, 2)]),
)
def test_no_group_is_torn_apart_and_train_has_every_class(
    images: list[tuple[int, int]], seed: int, ratio: tuple[int, ...]
) -> None:
    labels, groups = np.array(images).T
    groups = np.unique(groups, return_inverse=True)[1]
    index = grouped_split(labels, groups, seed, ratio)
    assert all(len(set(index[groups == group])) == 1 for group in groups)
    assert set(labels[index == 0]) == set(labels)
    assert not any(np.any(index == split) for split in range(3) if not ratio[split])
    assert np.array_equal(index, grouped_split(labels, groups, seed, ratio))


def test_many_groups_come_near_the_ratio_in_every_class() -> None:
    rng = np.random.default_rng(0)
    groups, labels = rng.integers(0, 60, 4000), rng.integers(0, 4, 4000)
    index = grouped_split(labels, groups, 0)
    for label in range(4):
        assert np.bincount(index[labels == label]) / (labels == label).sum() == pytest.approx([0.7, 0.1, 0.2], abs=0.03)


def test_three_groups_of_every_class_are_enough_and_the_seed_decides() -> None:
    groups, labels = np.repeat([0, 1, 2], 10), np.arange(30) % 2
    splits = {tuple(grouped_split(labels, groups, seed).tolist()) for seed in range(20)}
    assert len(splits) > 1
    assert all(set(split) == {0, 1, 2} for split in splits)


def assign(
    labels: list[int], groups: Sequence[str | None] | None = None, given_splits: list[int] | None = None
) -> list[int]:
    assignment = assign_splits(
        Path("data"),
        np.array(labels),
        NAMES,
        0,
        given=None if given_splits is None else np.array(given_splits),
        given_by="its folders",
        groups=groups,
        group_source="patients",
    )
    return [int(split) for split in assignment.index]


def test_missing_splits_are_drawn_from_train_only() -> None:
    labels = [0, 1] * 20
    for given_splits, counts in (
        ([0] * 32 + [2] * 8, [28, 4, 8]),
        ([0] * 36 + [1] * 4, [28, 4, 8]),
        ([0] * 40, [28, 4, 8]),
    ):
        index = assign(labels, given_splits=given_splits)
        assert np.bincount(index).tolist() == counts
        assert [split for split, first in zip(index, given_splits, strict=True) if first] == [
            s for s in given_splits if s
        ]


@pytest.mark.parametrize(
    ("given_splits", "counts", "rule"),
    [
        (None, [36, 4, 0], "split 9:1 by class"),
        ([0] * 32 + [2] * 8, [28, 4, 8], "val drawn from train, train:val = 9:1"),
        ([0] * 36 + [1] * 4, [36, 4, 0], "split by its folders"),
    ],
)
def test_where_no_test_split_is_drawn_nine_tenths_are_train(
    given_splits: list[int] | None, counts: list[int], rule: str
) -> None:
    given = None if given_splits is None else np.array(given_splits)
    labels = np.array([0, 1] * 20)
    assignment = assign_splits(Path("data"), labels, NAMES, 5, given=given, given_by="its folders", draw_test=False)
    assert np.bincount(assignment.index, minlength=3).tolist() == counts
    assert rule in assignment.rule


@pytest.mark.parametrize(("draw_test", "n_groups"), [(True, 4), (False, 3)])
def test_groups_are_kept_apart_where_train_gets_two_of_them(draw_test: bool, n_groups: int) -> None:
    labels = np.array([0, 1] * 30)
    for n, is_grouped in ((n_groups - 1, False), (n_groups, True)):
        groups = [f"stack {i // 2 % n}" for i in range(60)]
        assignment = assign_splits(
            Path("data"), labels, NAMES, 0, groups=groups, group_source="stacks", falls_back=True, draw_test=draw_test
        )
        by_group = {name: {*assignment.index[np.array(groups) == name]} for name in set(groups)}
        assert all(len(splits) == 1 for splits in by_group.values()) == is_grouped
        assert ("one by one" in " ".join(assignment.warnings)) != is_grouped
        assert (2 in assignment.index) == draw_test


def test_the_rule_names_what_was_drawn_and_with_which_seed() -> None:
    labels, given_splits = np.array([0, 1] * 20), np.array([0] * 32 + [2] * 8)
    assignment = assign_splits(Path("data"), labels, NAMES, 5, given=given_splits, given_by="its folders")
    assert all(text in assignment.rule for text in ("its folders", "val", "7:1", "seed 5"))
    groups = [f"p{i % 6}" for i in range(40)]
    assignment = assign_splits(Path("data"), labels, NAMES, 5, groups=groups, group_source="patients")
    assert assignment.n_groups == 6
    assert all(text in assignment.rule for text in ("7:1:2", "group", "6 groups (patients)", "seed 5"))


def test_images_of_no_group_are_split_one_by_one() -> None:
    groups = [None, None] * 10 + ["p"] * 10
    index = assign([0, 1] * 15, groups)
    assert set(index[:20]) == {0, 1, 2}
    assert len(set(index[20:])) == 1


def test_too_few_groups_are_refused() -> None:
    for groups in (["p", "q"] * 10, [name for name in NAMES for _ in range(3)] * 4):
        with pytest.raises(FileError, match="`groups`"):
            assign([i // 3 % 2 for i in range(len(groups))], groups)


@pytest.mark.parametrize("given_splits", [None, [0] * 12 + [1] * 4 + [2] * 4])
def test_one_group_of_all_images_is_none(given_splits: list[int] | None) -> None:
    given = None if given_splits is None else np.array(given_splits)
    assignment = assign_splits(
        Path("data"), np.array([0, 1] * 10), NAMES, 0, given=given, given_by="folders", groups=["P1"] * 20
    )
    assert assignment.n_groups is None
    assert assignment.groups is None
    assert np.bincount(assignment.index).tolist() == ([14, 2, 4] if given is None else [12, 4, 4])
    (warning,) = assignment.warnings
    assert "P1" in warning


def test_too_few_images_and_no_training_images_are_refused() -> None:
    for labels, given_splits in (([0, 0, 0, 1, 1], None), ([0, 0, 1, 0, 1], [0, 0, 0, 2, 2]), ([0, 1], [2, 2])):
        with pytest.raises(FileError):
            assign(labels, given_splits=given_splits)


def test_a_group_in_two_given_splits_is_named() -> None:
    given_splits = np.array([0, 0, 1, 1, 2, 2])
    groups = ["p", "q", "p", "r", "s", ""]
    assignment = assign_splits(Path("data"), np.array([0, 1] * 3), NAMES, 0, given=given_splits, groups=groups)
    (warning,) = assignment.warnings
    assert "1 of 4" in warning
    assert "p in train and val" in warning


def test_the_rule_for_groups_is_one_of_four() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_group_rule("patients")
    assert (caught.value.parameter, caught.value.value) == ("groups", "patients")
