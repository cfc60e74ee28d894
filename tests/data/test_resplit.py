"""Train and validation drawn anew: every image once at most, none of test, and said in the provenance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nephros
from nephros.data.resplit import resplit_train_val
from nephros.errors import NephrosError
from tests.conftest import squares_dataset


def test_sizes_and_images_are_those_asked_for() -> None:
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


@pytest.mark.parametrize("sizes", [(100, 1), (0, 10), (10,), (10, -1)])
def test_sizes_that_can_t_be_had(sizes: tuple[int, ...]) -> None:
    with pytest.raises(NephrosError, match="--resplit"):
        resplit_train_val(squares_dataset(n=80), sizes, seed=0)


def test_load_draws_again_before_it_takes_a_subset(tiny_npz: Path) -> None:
    data = nephros.load(tiny_npz, resplit=(200, 100), subset=40)
    assert (len(data.train), len(data.val)) == (40, 100)
    assert "200 / 100" in data.provenance.detail
    assert "subset of 40" in data.provenance.detail
