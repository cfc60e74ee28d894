"""Train and validation drawn anew: every image once at most, none of test, and said in the provenance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nephros
from nephros.data.resplit import resplit
from nephros.errors import UserError
from tests.conftest import made_up


def test_sizes_and_images_are_those_asked_for() -> None:
    old = made_up(n=80)
    new = resplit(old, (60, 30), seed=3)
    assert (len(new.train), len(new.val)) == (60, 30)
    drawn = [image.tobytes() for split in (new.train, new.val) for image in split.images]
    pool = {
        image.tobytes(): label
        for split in (old.train, old.val)
        for image, label in zip(split.images, split.labels, strict=True)
    }
    assert len(set(drawn)) == 90
    labels = np.concatenate([new.train.labels, new.val.labels])
    assert [pool[image] for image in drawn] == labels.tolist()
    assert np.array_equal(new.test.images, old.test.images)
    assert "60 / 30 drawn at random" in new.provenance.detail
    again, other = resplit(old, (60, 30), seed=3), resplit(old, (60, 30), seed=4)
    assert np.array_equal(again.train.images, new.train.images)
    assert not np.array_equal(other.train.images, new.train.images)


@pytest.mark.parametrize("sizes", [(100, 1), (0, 10), (10,), (10, -1)])
def test_sizes_that_can_t_be_had(sizes: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="--resplit"):
        resplit(made_up(n=80), sizes, seed=0)


def test_load_draws_again_before_it_takes_a_subset(tiny_npz: Path) -> None:
    data = nephros.load(tiny_npz, resplit=(200, 100), subset=40)
    assert (len(data.train), len(data.val)) == (40, 100)
    assert "200 / 100" in data.provenance.detail
    assert "subset of 40" in data.provenance.detail
