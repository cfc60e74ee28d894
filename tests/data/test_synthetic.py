"""Synthetic nuclei: reproducible, imbalanced, as bright as TissueMNIST, learnable, and labeled as synthetic."""

from __future__ import annotations

import numpy as np
import pytest

from nephros.data.dataset import Dataset
from nephros.data.synthetic import NUCLEUS_TYPES, draw_volumes, make_synthetic
from nephros.errors import InvalidArgument


@pytest.fixture(scope="module")
def cells() -> Dataset:
    return make_synthetic(400, 40, 160, seed=0)


def test_shapes_dtypes_and_names(cells: Dataset) -> None:
    assert [split.images.shape for _, split in cells.splits()] == [(400, 28, 28), (40, 28, 28), (160, 28, 28)]
    assert cells.train.images.dtype == np.uint8
    assert cells.train.labels.dtype == np.int64
    assert len(set(cells.class_names)) == 8
    assert all(name.startswith("synthetic: ") for name in cells.class_names)
    assert cells.provenance.title == "synthetic nuclei"
    assert cells.provenance.path == ""


def test_intensity_is_near_that_of_tissuemnist(cells: Dataset) -> None:
    pixels = cells.train.images / 255
    assert 0.08 < pixels.mean() < 0.13
    assert 0.08 < pixels.std() < 0.13


def test_classes_are_as_imbalanced_as_in_tissuemnist(cells: Dataset) -> None:
    counts = cells.train.class_counts(8)
    weights = np.array([nucleus_type.weight for nucleus_type in NUCLEUS_TYPES])
    assert counts.sum() == 400
    assert np.abs(counts - 400 * weights / weights.sum()).max() <= 1


def test_the_nucleus_is_in_the_center_and_the_corners_are_darker(cells: Dataset) -> None:
    mean = cells.train.images.mean(axis=0)
    assert mean[11:17, 11:17].mean() > 1.5 * mean[:4, :4].mean()


def test_the_same_seed_gives_the_same_cells() -> None:
    first, again, other = (
        make_synthetic(16, 8, 8, seed=1),
        make_synthetic(16, 8, 8, seed=1),
        make_synthetic(16, 8, 8, seed=2),
    )
    assert np.array_equal(first.train.images, again.train.images)
    assert first.provenance.sha256 == again.provenance.sha256 != other.provenance.sha256
    assert not np.array_equal(first.val.images, first.test.images)


def test_the_number_of_classes_can_be_smaller() -> None:
    two = make_synthetic(20, 4, 4, n_classes=2)
    assert two.class_names == ("synthetic: round", "synthetic: oval")
    assert two.task == "binary-class"
    with pytest.raises(InvalidArgument) as too_many:
        make_synthetic(20, 9, 9, n_classes=9)
    with pytest.raises(InvalidArgument) as too_few:
        make_synthetic(20, 7, 8)
    assert (too_many.value.parameter, too_many.value.value) == ("n_classes", 9)
    assert (too_few.value.parameter, too_few.value.value) == ("n_val", 7)


def test_classes_differ_but_overlap(cells: Dataset) -> None:
    """The nearest class mean of three features predicts better than chance, and far from perfectly."""

    def features(images: np.ndarray) -> np.ndarray:
        middle = images[:, 6:22, 6:22].astype(float)
        return np.stack([middle.mean((1, 2)), middle.std((1, 2)), np.abs(np.diff(middle, axis=2)).mean((1, 2))], axis=1)

    train, test = features(cells.train.images), features(cells.test.images)
    train, test = (np.log(values + 1) for values in (train, test))
    means = np.stack([train[cells.train.labels == label].mean(0) for label in range(8)])
    distances = ((test[:, None] - means) / train.std(0)) ** 2
    recall = [(distances.sum(2).argmin(1) == label)[cells.test.labels == label].mean() for label in range(8)]
    assert 0.15 < np.mean(recall) < 0.8


def test_volumes_are_8_bit_stacks_of_seven_slices() -> None:
    volumes = draw_volumes(np.zeros(3, dtype=np.int64), np.random.default_rng(0))
    assert volumes.shape == (3, 7, 32, 32)
    assert volumes.dtype == np.uint8
