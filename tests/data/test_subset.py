"""Class-stratified subsets: exact size, every class, and shares by largest remainder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nephros.data.dataset import Dataset, Provenance, Split
from nephros.data.subset import largest_remainder, stratified_indices, subset_train
from nephros.errors import NephrosError


def test_shares_follow_the_largest_remainder() -> None:
    # 10 of (50, 30, 15, 5): 5, 3, 1.5 and .5; the earlier of two equal remainders gets the last place, then the
    # class with no place takes one from the largest.
    assert largest_remainder(np.array([50, 30, 15, 5]), 10).tolist() == [4, 3, 2, 1]
    assert largest_remainder(np.array([7, 5]), 12).tolist() == [7, 5]
    assert largest_remainder(np.array([1000, 1, 1]), 3).tolist() == [1, 1, 1]


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.data(), st.integers(0, 3))
def test_subset_is_exact_distinct_and_has_every_class(counts: list[int], data: st.DataObject, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)
    n = data.draw(st.integers(len(counts), len(labels)))
    indices = stratified_indices(labels, n, seed)
    assert indices.dtype == np.int64
    assert len(indices) == n
    assert (np.diff(indices) > 0).all()
    assert set(labels[indices]) == set(labels)
    shares = np.bincount(labels[indices]) - np.array(counts) * n / len(labels)
    assert shares.max() <= 1


def test_seed_decides_the_draw() -> None:
    labels = np.arange(1000, dtype=np.int64) % 5
    assert np.array_equal(stratified_indices(labels, 100, 0), stratified_indices(labels, 100, 0))
    assert not np.array_equal(stratified_indices(labels, 100, 0), stratified_indices(labels, 100, 1))


def test_impossible_sizes_name_the_flag() -> None:
    labels = np.arange(20, dtype=np.int64) % 4
    with pytest.raises(NephrosError, match=r"--subset 3 is too small.* 4 classes"):
        stratified_indices(labels, 3, 0)
    with pytest.raises(NephrosError, match="--subset 21 is more than the 20 training images"):
        stratified_indices(labels, 21, 0)


def test_only_train_shrinks_and_the_provenance_says_so() -> None:
    labels = np.arange(40, dtype=np.int64) % 4
    split = Split(np.arange(40 * 4, dtype=np.uint8).reshape(40, 2, 2), labels)
    provenance = Provenance("cells", "own", "", "0", detail="drawn by hand")
    dataset = Dataset(split, split, split, tuple("abcd"), provenance)
    smaller = subset_train(dataset, 8, 3)
    assert smaller.train.class_counts(4).tolist() == [2, 2, 2, 2]
    assert np.array_equal(smaller.train.images, split.images[stratified_indices(labels, 8, 3)])
    assert len(smaller.val) == len(smaller.test) == 40
    assert smaller.provenance.detail == "drawn by hand; train subset of 8, class-stratified, seed 3"
