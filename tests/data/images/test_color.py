"""What colors stand for: look-up tables and real palettes, and the planes of fluorescence images that hold the signal."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nephros.data.images.color import inks_to_rgb, palette_values, signal_planes

RAMP = np.arange(256, dtype=np.uint8)
SPOT = np.clip(240 - 12 * np.hypot(*np.mgrid[-14:14, -14:14]), 5, None).astype(np.uint8)
"""A nucleus in a dark field."""
OTHER_SPOT = np.roll(SPOT, 9, axis=(0, 1))
BLACK = np.zeros_like(SPOT)


def table(*planes: NDArray[Any] | int) -> NDArray[np.uint8]:
    return np.stack([np.broadcast_to(plane, 256) for plane in planes], axis=1).astype(np.uint8)


FIRE = np.stack(
    [np.interp(RAMP, [0, 60, 130, 255], values) for values in ([0, 130, 255, 255], [0, 0, 110, 255], [0, 200, 0, 255])],
    axis=1,
)
HILO = table(RAMP, RAMP, RAMP)
HILO[0], HILO[255] = (0, 0, 255), (255, 0, 0)

LOOKUP_TABLES = {
    "gray": table(RAMP, RAMP, RAMP),
    "inverted gray": table(RAMP[::-1], RAMP[::-1], RAMP[::-1]),
    "green": table(0, RAMP, 0),
    "dim blue": table(0, 0, RAMP * 0.6),
    "inverted blue": table(0, 0, RAMP[::-1]),
    "cyan": table(0, RAMP, RAMP),
    "orange": table(RAMP, RAMP // 2, 0),
    "fire": np.rint(FIRE).astype(np.uint8),
    "HiLo": HILO,
}


@pytest.mark.parametrize("name", LOOKUP_TABLES)
def test_the_indices_of_a_lookup_table_are_the_intensities(name: str) -> None:
    values, note = palette_values(SPOT, LOOKUP_TABLES[name], 8)
    assert np.array_equal(values, SPOT)
    assert bool(note) is (name != "gray")


def test_a_wide_lookup_table_keeps_its_indices() -> None:
    indices = SPOT.astype(np.uint16) * 257
    palette = np.repeat((np.arange(65536) >> 8).astype(np.uint8)[:, None], 3, axis=1)
    values, _ = palette_values(indices, palette, 16)
    assert np.array_equal(values, indices)


@pytest.mark.parametrize("n_colors", [256, 107, 16, 3])
@pytest.mark.parametrize("padded", [False, True], ids=["as in PNG", "padded as in TIFF"])
def test_the_grays_of_a_reduced_image_are_its_intensities(n_colors: int, padded: bool) -> None:
    image = Image.fromarray(SPOT // 2).convert("RGB").quantize(n_colors)
    palette = np.array(image.getpalette(), dtype=np.uint8).reshape(-1, 3)
    if padded:
        palette = np.pad(palette, ((0, 256 - len(palette)), (0, 0)))
    values, note = palette_values(np.asarray(image), palette, 8)
    assert values.shape == SPOT.shape
    assert not note
    assert np.array_equal(values, np.asarray(image.convert("L")))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_colors_are_colors_whatever_their_order(bits: int) -> None:
    n = 1 << bits
    grays = np.repeat(np.linspace(255, 0, n).astype(np.uint8)[:, None], 3, axis=1)
    indices = np.arange(16, dtype=np.uint8).reshape(4, 4) % n
    values, _ = palette_values(indices, grays, bits)
    assert np.array_equal(values, grays[indices, 0])


def test_real_colors_are_taken_from_the_palette() -> None:
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    values, note = palette_values(SPOT, palette, 8)
    assert np.array_equal(values, palette[SPOT])
    assert "palette" in note


def test_indices_beyond_the_palette_are_black() -> None:
    values, _ = palette_values(np.array([[0, 9]], dtype=np.uint8), np.array([[7, 7, 7]], dtype=np.uint8), 8)
    assert values.tolist() == [[7, 0]]


def jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("quality", [None, 95, 75])
@pytest.mark.parametrize("plane", [0, 1, 2])
def test_one_bright_plane_is_the_signal(plane: int, quality: int | None) -> None:
    image = np.zeros((*SPOT.shape, 3), dtype=np.uint8)
    image[..., plane] = SPOT
    assert signal_planes(image if quality is None else jpeg(image, quality)) == (plane,)
    assert signal_planes(image.astype(np.uint16) * 16) == (plane,)
    assert signal_planes(image.astype(np.float32) / 255) == (plane,)


def test_a_small_nucleus_is_a_signal() -> None:
    image = np.zeros((100, 100, 3), dtype=np.uint8)
    image[40:44, 40:44, 2] = 200  # too small for a percentile
    assert signal_planes(image) == (2,)


@pytest.mark.parametrize(
    ("color", "expected"),
    [((0, 1, 1), {1, 2}), ((1, 0, 1), {0, 2}), ((1, 1, 0), {0, 1}), ((1, 0.5, 0), {0}), ((0.1, 0.2, 1), {2})],
)
def test_one_signal_in_a_mixed_color_is_its_brighter_plane(color: tuple[float, ...], expected: set[int]) -> None:
    image = np.rint(SPOT[..., None] * np.array(color)).astype(np.uint8)
    (plane,) = signal_planes(image)
    assert plane in expected


def test_two_fluorophores_are_two_planes() -> None:
    assert signal_planes(np.stack([OTHER_SPOT, BLACK, SPOT], axis=2)) == (0, 2)
    assert signal_planes(np.stack([BLACK, OTHER_SPOT, SPOT], axis=2)) == (1, 2)
    assert signal_planes(np.stack([np.full_like(SPOT, 9), OTHER_SPOT, SPOT], axis=2)) == (1, 2)


def test_a_plane_that_is_the_same_everywhere_is_no_signal() -> None:
    assert signal_planes(np.stack([np.full_like(SPOT, 255), SPOT, BLACK], axis=2)) == (1,)


def test_gray_and_photographs_have_three_planes_and_black_none() -> None:
    assert signal_planes(np.stack([SPOT] * 3, axis=2)) == (0, 1, 2)
    stained = 255 - np.stack([SPOT // 2, SPOT, SPOT // 3], axis=2)  # a stain on white
    assert signal_planes(stained) == (0, 1, 2)
    assert signal_planes(np.zeros((9, 9, 3), dtype=np.uint8)) == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_inks_become_light(dtype: type) -> None:
    full = np.iinfo(dtype).max
    inks: NDArray[Any] = np.array([[[0, 0, 0, 0], [full, 0, 0, 0], [0, 0, 0, full]]], dtype=dtype)
    assert inks_to_rgb(inks).tolist() == [[[full] * 3, [0, full, full], [0, 0, 0]]]
    assert inks_to_rgb(inks).dtype == dtype
