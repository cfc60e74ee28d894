"""Each image keeps the name that its source gives it, through splits, subsets and resizing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import nephros
from nephros.data.dataset import Dataset
from nephros.data.images.input_conversion import CONVERSION_ARRAY
from nephros.data.subset import tuning_subset
from tests.conftest import square_images, squares_dataset, write_npz


def _check(dataset: Dataset, place_of_name: dict[str, int]) -> None:
    """Check that names lead to the images they are of: the first pixel of image i is i."""
    names = set()
    for _, split in dataset.splits():
        assert split.names is not None
        assert [place_of_name[str(name)] for name in split.names] == split.images[:, 0, 0].tolist()
        names |= set(split.names.tolist())
    assert len(names) == sum(len(split) for _, split in dataset.splits())


def _numbered() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = square_images(48, 3, seed=0)
    images[:, 0, 0] = np.arange(48)
    return images, labels


def test_names_of_files(tmp_path: Path) -> None:
    images, labels = _numbered()
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = tmp_path / f"kind {label}" / f"patient {i % 8}" / f"cell {i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    place_of_name = {f"kind {label}/patient {i % 8}/cell {i}.png": i for i, label in enumerate(labels)}
    arguments: list[dict[str, Any]] = [{}, {"groups": "none"}, {"subset": 20}, {"resplit": (20, 10)}]
    for options in arguments:
        _check(nephros.load_dataset(tmp_path, **options), place_of_name)


def test_names_of_arrays(tmp_path: Path) -> None:
    images, labels = _numbered()
    place_of_name = {f"images[{i}]": i for i in range(48)}
    _check(Dataset.from_arrays(images, labels), place_of_name)
    np.savez(tmp_path / "cells.npz", images=images, labels=labels)
    _check(nephros.load_dataset(tmp_path / "cells.npz"), place_of_name)
    text = np.where(np.arange(48) % 5 == 0, "", np.array(["a", "b", "c"])[labels])
    np.savez(tmp_path / "some.npz", images=images, labels=text)
    _check(nephros.load_dataset(tmp_path / "some.npz", resplit=(20, 5)), place_of_name)


def test_nuclei_have_the_names_of_their_stacks(tmp_path: Path) -> None:
    images, labels = _numbered()
    stack, ids = np.array([f"K{i % 4}" for i in range(48)]), np.arange(48) + 100
    conversion = np.array(json.dumps(nephros.Dataset.from_arrays(images, labels).input_conversion.to_dict()))
    arrays: dict[str, Any] = {
        "images": images,
        "labels": labels,
        "stack": stack,
        "ids": ids,
        CONVERSION_ARRAY: conversion,
    }
    np.savez(tmp_path / "cells.npz", **arrays)
    _check(nephros.load_dataset(tmp_path / "cells.npz"), {f"K{i % 4}, nucleus {i + 100}": i for i in range(48)})
    changes: list[dict[str, Any]] = [
        {"ids": ids[:-1]},
        {"ids": ids * 0.5},
        {"stack": np.arange(48)},
        {"ids": ids[:, None]},
    ]
    for damaged in changes:
        np.savez(tmp_path / "odd.npz", **{**arrays, **damaged})
        _check(nephros.load_dataset(tmp_path / "odd.npz", groups="none"), {f"images[{i}]": i for i in range(48)})


def test_images_have_the_names_of_an_array(tmp_path: Path) -> None:
    images, labels = _numbered()
    names = np.array([f"cell {i}" for i in range(48)])
    arrays: dict[str, Any] = {"images": images, "labels": labels, "names": names}
    np.savez(tmp_path / "other.npz", **arrays)
    _check(nephros.load_dataset(tmp_path / "other.npz"), {f"images[{i}]": i for i in range(48)})
    arrays[CONVERSION_ARRAY] = np.array(json.dumps(Dataset.from_arrays(images, labels).input_conversion.to_dict()))
    np.savez(tmp_path / "cells.npz", **arrays)
    _check(nephros.load_dataset(tmp_path / "cells.npz"), {f"cell {i}": i for i in range(48)})
    for damaged in (names[:-1], names[:, None], np.arange(48)):
        np.savez(tmp_path / "odd.npz", **{**arrays, "names": damaged})
        _check(nephros.load_dataset(tmp_path / "odd.npz"), {f"images[{i}]": i for i in range(48)})


def test_a_split_that_is_a_whole_array_needs_no_names(tmp_path: Path) -> None:
    dataset = nephros.load_dataset(write_npz(tmp_path / "squares.npz", squares_dataset(n=24)))
    assert all(split.names is None for _, split in dataset.splits())
    assert dataset.train[[1, 2]].names is None


def test_images_that_are_drawn_again_are_named_by_their_array(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "squares.npz", squares_dataset(n=48))
    whole = nephros.load_dataset(path)
    image_of_name = {
        f"{split_name}_images[{i}]": image.tobytes()
        for split_name, split in whole.splits()
        for i, image in enumerate(split.images)
    }
    for data in (
        nephros.load_dataset(path, resplit=(30, 9)),
        nephros.load_dataset(path, subset=20),
        tuning_subset(whole, 20, 0),
    ):
        for _, split in data.splits():
            if split.names is not None:
                assert [image_of_name[str(name)] for name in split.names] == [image.tobytes() for image in split.images]
        assert data.train.names is not None


def test_arrays_of_other_names_name_their_images(tmp_path: Path) -> None:
    data = squares_dataset(n=24)
    arrays: dict[str, Any] = {}
    for name, split in data.splits():
        arrays |= {f"x_{name}": split.images, f"y_{name}": split.labels}
    np.savez(tmp_path / "cells.npz", **arrays)
    names = nephros.load_dataset(tmp_path / "cells.npz").val.names
    assert names is not None
    assert names.tolist() == [f"x_val[{i}]" for i in range(len(data.val))]
