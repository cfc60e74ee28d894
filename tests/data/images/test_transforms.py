"""Changes to decoded images: grayscale, 8 bits, size and projection."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nephros.data.images.transforms import letterbox, max_project, resize_images, to_grayscale, to_uint8

NOISE = np.random.default_rng(0).integers(0, 256, (24, 20), dtype=np.uint8)


def test_colors_become_gray_by_their_luminance() -> None:
    colors = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90]]], dtype=np.uint8)
    assert to_grayscale(colors).tolist() == [[76, 150, 29, 90]]
    assert to_grayscale(NOISE) is NOISE


def test_the_white_level_becomes_255() -> None:
    image = np.array([[0, 1024, 4096, 65535]], dtype=np.uint16)
    assert to_uint8(image, 65535).tolist() == [[0, 4, 16, 255]]
    assert to_uint8(image, 4096).tolist() == [[0, 64, 255, 255]]
    assert to_uint8(NOISE, 7) is NOISE


@pytest.mark.parametrize(
    ("shape", "inside"),
    [
        ((56, 56), (slice(None), slice(None))),
        ((14, 28), (slice(7, 21), slice(None))),
        ((40, 20), (slice(None), slice(7, 21))),
        ((5, 90_000), (slice(13, 14), slice(None))),
    ],
)
def test_letterbox_keeps_the_aspect_ratio(shape: tuple[int, int], inside: tuple[slice, slice]) -> None:
    fitted = letterbox(np.full(shape, 200, dtype=np.uint8), 28, 28)
    assert fitted.shape == (28, 28)
    assert (fitted[inside] == 200).all()
    fitted = fitted.copy()
    fitted[inside] = 0
    assert not fitted.any()


def test_letterbox_resizes_as_training_images_were_resized() -> None:
    square = np.random.default_rng(1).integers(0, 256, (32, 32), dtype=np.uint8)
    assert np.array_equal(letterbox(square, 28, 28), resize_images(square[None])[0])
    color = np.stack([square] * 3, axis=2)
    assert np.array_equal(letterbox(color, 28, 28)[..., 1], letterbox(square, 28, 28))


def test_volumes_are_projected_and_resized_with_pillow() -> None:
    volumes = np.random.default_rng(0).integers(0, 256, (3, 7, 32, 32), dtype=np.uint8)
    projected = max_project(volumes)
    assert np.array_equal(projected[1, 5], volumes[1, :, 5].max(axis=0))
    resized = resize_images(projected)
    assert resized.shape == (3, 28, 28)
    expected = Image.fromarray(projected[2]).resize((28, 28), Image.Resampling.BICUBIC)
    assert np.array_equal(resized[2], np.asarray(expected))


def test_other_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match=r"uint8 \(n, z, h, w\)"):
        max_project(np.zeros((2, 7, 32, 32)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"uint8 \(n, h, w\)"):
        resize_images(np.zeros((2, 7, 32, 32), dtype=np.uint8))
