"""Class-stratified subsets, and train and validation drawn again from the two together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nephros
from nephros.data.dataset import Dataset
from nephros.data.provenance import Provenance
from nephros.data.split import Split
from nephros.data.subset import largest_remainder, resplit_train_val, stratified_indices, subset_train, tuning_subset
from nephros.errors import InvalidArgument
from tests.conftest import squares_dataset


def test_shares_follow_the_largest_remainder() -> None:
    # 10 of (50, 30, 15, 5): 5, 3, 1.5 and 0.5; the earlier of two equal remainders gets the last place, then the
    # class without a place takes one from the largest.
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


@pytest.mark.parametrize(("n", "limit"), [(3, "at least 4"), (21, "at most 20")])
def test_impossible_sizes_name_the_parameter_and_its_limit(n: int, limit: str) -> None:
    labels = np.arange(20, dtype=np.int64) % 4
    with pytest.raises(InvalidArgument) as exc_info:
        stratified_indices(labels, n, 0)
    assert (exc_info.value.parameter, exc_info.value.value) == ("subset", n)
    assert exc_info.value.expected.startswith(limit)


def test_only_train_shrinks_and_the_provenance_records_it() -> None:
    labels = np.arange(40, dtype=np.int64) % 4
    split = Split(np.arange(40 * 4, dtype=np.uint8).reshape(40, 2, 2), labels)
    provenance = Provenance("cells", "own", "", "0", detail="drawn by hand")
    dataset = Dataset(split, split, split, tuple("abcd"), provenance)
    smaller = subset_train(dataset, 8, 3)
    assert smaller.train.class_counts(4).tolist() == [2, 2, 2, 2]
    assert np.array_equal(smaller.train.images, split.images[stratified_indices(labels, 8, 3)])
    assert len(smaller.val) == len(smaller.test) == 40
    assert smaller.provenance.detail == "drawn by hand; train subset of 8, class-stratified, seed 3"


def test_tuning_subset_needs_a_validation_image_of_every_class() -> None:
    dataset = squares_dataset(n=80)
    n_classes = dataset.n_classes
    smallest = tuning_subset(dataset, 4 * n_classes, 0)
    assert (len(smallest.train), len(smallest.val)) == (4 * n_classes, n_classes)
    with pytest.raises(InvalidArgument) as exc_info:
        tuning_subset(dataset, 4 * n_classes - 1, 0)
    assert exc_info.value.parameter == "subset"


def test_resplit_draws_every_image_at_most_once_and_none_of_test() -> None:
    original = squares_dataset(n=80)
    resampled = resplit_train_val(original, (60, 30), seed=3)
    assert (len(resampled.train), len(resampled.val)) == (60, 30)
    image_bytes = [image.tobytes() for split in (resampled.train, resampled.val) for image in split.images]
    label_of_image = {
        image.tobytes(): label
        for split in (original.train, original.val)
        for image, label in zip(split.images, split.labels, strict=True)
    }
    assert len(set(image_bytes)) == 90
    labels = np.concatenate([resampled.train.labels, resampled.val.labels])
    assert [label_of_image[image] for image in image_bytes] == labels.tolist()
    assert np.array_equal(resampled.test.images, original.test.images)
    assert "60 / 30 drawn at random" in resampled.provenance.detail
    again, other = resplit_train_val(original, (60, 30), seed=3), resplit_train_val(original, (60, 30), seed=4)
    assert np.array_equal(again.train.images, resampled.train.images)
    assert not np.array_equal(other.train.images, resampled.train.images)


@pytest.mark.parametrize("sizes", [(100, 1), (0, 10), (10,), (10, -1), (1, 10)])
def test_impossible_resplits_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument) as exc_info:
        resplit_train_val(squares_dataset(n=80), sizes, seed=0)
    assert exc_info.value.parameter == "resplit"


def test_load_resplits_before_it_takes_a_subset(tiny_npz: Path) -> None:
    dataset = nephros.load_dataset(tiny_npz, resplit=(200, 100), subset=40)
    assert (len(dataset.train), len(dataset.val)) == (40, 100)
    assert "200 / 100" in dataset.provenance.detail
    assert "subset of 40" in dataset.provenance.detail
