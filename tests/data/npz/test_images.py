"""Images of npz files in other shapes and number types: what they become, and the white level that prediction will use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.data.dataset import Dataset
from nephros.data.images.input_conversion import InputConversion
from nephros.data.load import load_dataset
from nephros.data.npz.opening import open_npz
from nephros.errors import FileError, InvalidArgument

RNG = np.random.default_rng(0)
IMAGES = {
    split: RNG.integers(0, 251, (n, 6, 5), dtype=np.uint8) for split, n in {"train": 12, "val": 6, "test": 6}.items()
}
IMAGES["test"][0, 0, 0] = 250
COLOR = {split: RNG.integers(0, 251, (len(images), 6, 5, 3), dtype=np.uint8) for split, images in IMAGES.items()}
Converter = Callable[[NDArray[np.uint8]], NDArray[Any]]


def write(path: Path, convert: Converter, images: dict[str, NDArray[np.uint8]] = IMAGES) -> Path:
    arrays: dict[str, Any] = {f"{split}_images": convert(values) for split, values in images.items()}
    arrays |= {f"{split}_labels": np.arange(len(values)) % 3 for split, values in images.items()}
    np.savez(path, **arrays)
    return path


def assert_images(dataset: Dataset, expected: dict[str, NDArray[np.uint8]]) -> None:
    for name, split in dataset.splits():
        assert split.images.dtype == np.uint8
        assert np.array_equal(split.images, expected[name])


@pytest.mark.parametrize(
    ("convert", "white_level"),
    [
        (lambda x: x, None),
        (lambda x: x[..., None], None),
        (lambda x: x[:, None], None),
        (lambda x: (x / 255).astype(np.float32), 1),
        (lambda x: x / 255, 1),
        (lambda x: (x / 255).astype(np.float16), 1),
        (lambda x: (x[:, None] / 255).astype(np.float32), 1),
        (lambda x: x.astype(np.float32), 255),
        (lambda x: x.astype(np.int64), 255),
        (lambda x: x.astype(np.int16)[:, None], 255),
        (lambda x: x.astype(">f4"), 255),
    ],
)
def test_other_types_and_shapes_give_the_same_images(
    tmp_path: Path, convert: Converter, white_level: float | None
) -> None:
    dataset = open_npz(write(tmp_path / "a.npz", convert))
    assert_images(dataset, IMAGES)
    assert dataset.input_conversion.white_level == white_level
    assert (dataset.provenance.detail == "") == (convert(IMAGES["val"]).shape[1] != 1 and white_level is None)


@pytest.mark.parametrize(
    "convert", [lambda x: x, lambda x: np.moveaxis(x, 3, 1), lambda x: (np.moveaxis(x, 3, 1) / 255).astype(np.float32)]
)
def test_colors_may_come_first_or_last(tmp_path: Path, convert: Converter) -> None:
    assert_images(open_npz(write(tmp_path / "a.npz", convert, COLOR)), COLOR)


@pytest.mark.parametrize("max_memory", [None, 0])
@pytest.mark.parametrize(
    "convert", [lambda x: x, lambda x: np.moveaxis(x, 3, 1), lambda x: (np.moveaxis(x, 3, 1) / 255).astype(np.float32)]
)
def test_a_color_plane_is_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, convert: Converter, max_memory: int | None
) -> None:
    monkeypatch.setenv("NEPHROS_CACHE", str(tmp_path / "cache"))
    path, green = write(tmp_path / "a.npz", convert, COLOR), InputConversion(channel=1)
    dataset = open_npz(path, conversion=green, max_memory=max_memory)
    assert_images(dataset, {split: images[..., 1] for split, images in COLOR.items()})
    assert (dataset.channels, dataset.input_conversion.channel) == (1, 1)
    assert "green plane" in dataset.provenance.detail
    with pytest.raises(InvalidArgument) as caught:
        load_dataset(path, channel=3)
    assert caught.value.parameter == "channel"


def test_the_white_level_is_that_of_the_plane(tmp_path: Path) -> None:
    scale = np.array([200, 16, 1], dtype=np.uint16)
    dataset = load_dataset(write(tmp_path / "a.npz", lambda x: x * scale, COLOR), channel=1, size=8)
    assert dataset.train.images.shape == (12, 8, 8)
    brightest = max(int(images[..., 1].max()) for images in COLOR.values())
    assert dataset.input_conversion == InputConversion(white_level=16 * brightest, channel=1)


def test_a_channel_of_gray_images_and_of_volumes(tmp_path: Path) -> None:
    assert_images(load_dataset(write(tmp_path / "gray.npz", lambda x: x), channel=1), IMAGES)
    np.savez(tmp_path / "cells.npz", volumes=np.zeros((12, 3, 8, 8), np.uint8), labels=np.arange(12) % 2)
    with pytest.raises(InvalidArgument) as caught:
        load_dataset(tmp_path / "cells.npz", channel=1)
    assert caught.value.parameter == "channel"


def test_more_than_8_bits_are_scaled_by_one_factor(tmp_path: Path) -> None:
    expected = {split: np.rint(images * (255 / 250)).astype(np.uint8) for split, images in IMAGES.items()}
    converters: list[Converter] = [
        lambda x: x.astype(np.uint16) * 16,
        lambda x: x * 16.5,
        lambda x: x.astype(np.int32) * 200,
        lambda x: x / 200,
    ]
    for convert in converters:
        dataset = open_npz(write(tmp_path / "a.npz", convert))
        assert_images(dataset, expected)
        maximum = float(convert(np.array([250], np.uint8))[0])
        assert dataset.input_conversion.white_level == maximum
        assert f"maximum, {maximum:g}, becomes 255" in dataset.provenance.detail
    dataset = load_dataset(write(tmp_path / "a.npz", lambda x: x.astype(np.uint16) * 16), white_level=255 * 16)
    assert_images(dataset, IMAGES)


def test_truth_values_become_black_and_white(tmp_path: Path) -> None:
    dataset = open_npz(write(tmp_path / "a.npz", lambda x: x > 100))
    assert_images(dataset, {split: np.where(images > 100, 255, 0).astype(np.uint8) for split, images in IMAGES.items()})


@pytest.mark.parametrize(
    ("convert", "cause"),
    [
        (lambda x: x / 127.5 - 1, "after normalization"),
        (lambda x: (x - x.mean()) / x.std(), "after normalization"),
        (lambda x: x.astype(np.int16) - 100, "after normalization"),
        (lambda x: np.where(x > 200, np.nan, x / 255), "NaN"),
        (lambda x: np.where(x > 200, np.inf, x / 255), "infinite"),
        (lambda x: x.astype(complex), "complex"),
        (lambda x: x.astype(str), "numbers"),
        (lambda x: x.reshape(len(x), -1), r"\(n, h, w\)"),
        (lambda x: x[:, :4, :4].reshape(len(x), -1), r"\(-1, 4, 4\)"),
        (lambda x: np.repeat(x[..., None], 4, axis=3), "one channel"),
        (lambda x: np.repeat(x[..., None], 2, axis=3), "one channel"),
        (lambda x: np.repeat(x[..., None], 9, axis=3), "projection"),
        (lambda x: x[:, None, None], "shape"),
        (lambda x: np.moveaxis(np.repeat(x[..., None], 3, axis=3), 0, -1), r"moveaxis\(train_images, -1, 0\)"),
        (lambda x: x if len(x) > 6 else x / 255, "same type"),
    ],
)
def test_images_that_can_not_be_read_rightly_are_refused(tmp_path: Path, convert: Converter, cause: str) -> None:
    path = write(tmp_path / "a.npz", convert)
    with pytest.raises(FileError, match=cause) as caught:
        open_npz(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("scale", "white_level"), [(1 / 255, 4095), (16.0, 1)])
def test_a_white_level_for_other_pixels_is_refused(tmp_path: Path, scale: float, white_level: float) -> None:
    path = write(tmp_path / "a.npz", lambda x: x * scale)
    with pytest.raises(FileError, match="`white_level`"):
        load_dataset(path, white_level=white_level)
