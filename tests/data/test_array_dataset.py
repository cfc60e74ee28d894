"""Data sets from arrays, and splits as torch data sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import nephros
from nephros.data.dataset import Dataset
from nephros.data.split import Split
from nephros.errors import InvalidArgument
from nephros.recipe import AugmentConfig
from tests.conftest import square_images, squares_dataset

IMAGES, LABELS = square_images(80, 4, seed=0)


def test_arrays_are_split_by_class_and_keep_their_pixels() -> None:
    dataset = Dataset.from_arrays(IMAGES, LABELS, class_names=["a", "b", "c", "d"], name="mine")
    assert [len(split) for _, split in dataset.splits()] == [56, 8, 16]
    assert (dataset.class_names, dataset.provenance.title) == (("a", "b", "c", "d"), "mine")
    known = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    for _, split in dataset.splits():
        assert [known[image.tobytes()] for image in split.images] == split.labels.tolist()
    again, other = Dataset.from_arrays(IMAGES, LABELS), Dataset.from_arrays(IMAGES, LABELS[::-1])
    assert again.provenance.sha256 == dataset.provenance.sha256 != other.provenance.sha256
    np.testing.assert_array_equal(again.test.labels, dataset.test.labels)


def test_a_class_that_train_lacks_is_named() -> None:
    splits = np.where(LABELS == 2, "test", np.tile(["train", "val"], 40))
    with pytest.raises(InvalidArgument, match=r"no training images of class 2; every class needs training images"):
        Dataset.from_arrays(IMAGES, LABELS, splits=splits)


@pytest.mark.parametrize(
    ("images", "channels"),
    [
        (IMAGES / 255, 1),
        (IMAGES.astype(np.int32), 1),
        (torch.from_numpy(IMAGES)[:, None], 1),
        (list(IMAGES), 1),
        (np.repeat(IMAGES[:, None], 3, axis=1), 3),
    ],
    ids=["float", "int32", "torch", "list", "n3hw"],
)
def test_any_kind_of_pixels_becomes_uint8(images: Any, channels: int) -> None:
    dataset, expected = Dataset.from_arrays(images, LABELS), Dataset.from_arrays(IMAGES, LABELS)
    assert dataset.channels == channels
    pixels = dataset.train.images if channels == 1 else dataset.train.images[..., 1]
    np.testing.assert_array_equal(pixels, expected.train.images)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (LABELS[:, None], [f"class {c}" for c in range(4)]),
        (np.eye(4)[LABELS], [f"class {c}" for c in range(4)]),
        (np.array(["d", "a", "b", "c"])[LABELS], ["a", "b", "c", "d"]),
        (np.array(["d", "a", "b", "c"], dtype=object)[LABELS].tolist(), ["a", "b", "c", "d"]),
        (LABELS > 1, ["False", "True"]),
        (np.array([3, 5, 8, 13])[LABELS], ["class 3", "class 5", "class 8", "class 13"]),
        (LABELS + 1, [f"class {c}" for c in range(1, 5)]),
    ],
)
def test_labels_of_every_usual_kind_are_read(labels: Any, names: list[str]) -> None:
    dataset = Dataset.from_arrays(IMAGES, labels)
    assert list(dataset.class_names) == names
    assert sum(len(split) for _, split in dataset.splits()) == 80


def test_groups_stay_together_and_given_splits_stay() -> None:
    groups = np.arange(80) // 5
    dataset = Dataset.from_arrays(IMAGES, LABELS, groups=groups)
    members = [set(np.unique(split.groups).tolist()) for _, split in dataset.splits() if split.groups is not None]
    assert sum(map(len, members)) == len(set.union(*members)) == dataset.provenance.n_groups == 16
    splits = np.where(np.arange(80) < 60, "train", np.where(np.arange(80) < 70, "val", "test"))
    assert [len(split) for _, split in Dataset.from_arrays(IMAGES, LABELS, splits=splits).splits()] == [60, 10, 10]
    with_nobody = Dataset.from_arrays(IMAGES, LABELS, groups=[None, *groups[1:]])
    assert with_nobody.provenance.n_groups == 16


def test_images_of_several_sizes_need_a_size() -> None:
    images = [*IMAGES[:-1], IMAGES[-1][:14]]
    with pytest.raises(InvalidArgument) as caught:
        Dataset.from_arrays(images, LABELS)
    assert caught.value.parameter == "images[79]"
    assert Dataset.from_arrays(images, LABELS, size=20).image_size == (20, 20)


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        ({"labels": LABELS[:3]}, "labels"),
        ({"labels": None}, "labels"),
        ({"labels": LABELS * 0}, "labels"),
        ({"labels": LABELS + 0.5}, "labels"),
        ({"labels": LABELS.astype(float) * np.nan}, "labels"),
        ({"labels": np.r_[LABELS[:-1], 9]}, "labels"),
        ({"images": IMAGES * np.nan}, "images[0]"),
        ({"images": "cells.npz"}, "images"),
        ({"images": np.zeros((80, 28, 28, 2))}, "images[0]"),
        ({"images": [], "labels": []}, "labels"),
        ({"groups": [1, 2]}, "groups"),
        ({"groups": np.arange(80) % 2}, "groups"),
        ({"splits": ["train"]}, "splits"),
        ({"splits": ["tarin"] * 80}, "splits"),
        ({"splits": ["val"] * 80}, "splits"),
        ({"class_names": ["a"]}, "class_names"),
        ({"class_names": ["a", "a", "b", "c"]}, "class_names"),
        ({"size": 0}, "size"),
        ({"white_level": -1.0, "images": IMAGES / 255}, "white_level"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], parameter: str) -> None:
    arguments = {"images": IMAGES, "labels": LABELS, **arguments}
    with pytest.raises(InvalidArgument) as caught:
        Dataset.from_arrays(**arguments)
    assert caught.value.parameter == parameter
    assert "\n" not in str(caught.value)


def test_a_split_is_a_torch_dataset() -> None:
    dataset = squares_dataset(n=40)
    image, label = dataset.train[-1]
    assert (image.shape, str(image.dtype), type(label)) == ((1, 28, 28), "uint8", int)
    np.testing.assert_array_equal(image[0], dataset.train.images[-1])
    with pytest.raises(IndexError):
        dataset.train[40]
    assert [label for _, label in dataset.train] == dataset.train.labels.tolist()
    read_only = dataset.train.images.copy()
    read_only.flags.writeable = False
    images, labels = next(iter(DataLoader(Split(read_only, dataset.train.labels), 16)))  # type: ignore[arg-type]
    assert (images.shape, images.dtype, labels.dtype) == ((16, 1, 28, 28), torch.uint8, torch.int64)
    assert squares_dataset(n=40, channels=3).train[0][0].shape == (3, 28, 28)
    few = Split(dataset.train.images, dataset.train.labels, np.array(["p"] * 40))[dataset.train.labels == 1]
    assert len(few) == 10
    assert few.groups is not None
    assert len(few.groups) == 10


def test_the_loader_reads_every_image_once_per_pass() -> None:
    split = squares_dataset(n=40).train
    loader = split.dataloader(16)
    assert [len(labels) for _, labels in loader] == [16, 16, 8]
    assert len(loader) == 3
    np.testing.assert_array_equal(torch.cat([images for images, _ in loader])[:, 0].numpy(), split.images)
    assert [len(labels) for _, labels in split.dataloader(16, drop_last=True)] == [16, 16]
    first, second = split.dataloader(40, shuffle=True, seed=1), split.dataloader(40, shuffle=True, seed=1)
    labels = [next(iter(loader))[1].tolist() for loader in (first, second, first)]
    assert labels[0] == labels[1] != labels[2]
    assert sorted(labels[0]) == sorted(labels[2]) == sorted(split.labels.tolist())


def test_the_loader_augments() -> None:
    split = squares_dataset(n=40).train
    images, _ = next(iter(split.dataloader(40, augment=True, shuffle=False)))
    assert images.dtype == torch.uint8
    assert (images[:, 0].numpy() != split.images).any(axis=(1, 2)).mean() > 0.9
    (rotated, _), *_ = split.dataloader(40, augment=AugmentConfig(rotate=20))
    assert rotated.dtype == torch.float32
    for options, parameter in (({"batch_size": 0}, "batch_size"), ({"batch_size": 4, "augment": "flips"}, "augment")):
        with pytest.raises(InvalidArgument) as caught:
            split.dataloader(**options)
        assert caught.value.parameter == parameter


def test_a_dataset_shows_its_counts() -> None:
    dataset = nephros.Dataset.from_arrays(IMAGES, np.array(["<b>", "b", "c", "d"])[LABELS])
    assert "4 classes" in repr(dataset)
    page = dataset._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<td>80</td>" not in page
    assert "<td>56</td><td>8</td><td>16</td>" in page
    assert "56 images" in repr(dataset.train)
