"""From a decoded picture to a cell of the model's shape, by the rules that `nephros predict --help` states."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.image_decoding import MIN_SIDE
from nephros.data.image_transforms import letterbox, to_grayscale, to_uint8

CellShape = tuple[int, int, int]
"""Channels (1 or 3), height and width that a model needs."""


def rejection_reason(name: object, image: NDArray[Any]) -> str:
    """Return in one sentence, beginning with `name`, why the picture can't be a cell, or nothing."""
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        return f"{name} has {width}x{height} pixels, too few to show a cell; give at least {MIN_SIDE} a side."
    if image.dtype != np.uint8 and image.min() < 0:
        return f"{name} has negative pixels; save it with 8 or 16 unsigned bits."
    return ""


def preprocess(image: NDArray[Any], shape: CellShape, white_level: float) -> tuple[NDArray[np.uint8], list[str]]:
    """Return the picture as a (height, width) or (height, width, 3) uint8 cell, and what was done to it.

    `image` is as `nephros.data.image_decoding.decode_pages` yields it and has no `rejection_reason`; `white_level` is what
    becomes 255 of an image with more than 8 bits.
    """
    channels, height, width = shape
    conversions: list[str] = []
    if image.dtype != np.uint8:
        image = to_uint8(image, white_level)
        conversions.append(f"16-bit pixels made 8-bit: {white_level:g} became 255")
    if image.ndim == 3 and channels == 1:
        image = to_grayscale(image)
        conversions.append("color converted to grayscale (.299 red + .587 green + .114 blue)")
    if image.ndim == 2 and channels == 3:
        image = np.repeat(image[..., None], 3, axis=2)
        conversions.append("grayscale repeated in all three channels")
    if image.shape[:2] != (height, width):
        same_aspect_ratio = image.shape[0] * width == image.shape[1] * height
        conversions.append(
            f"resized to {width}x{height} pixels (bicubic)"
            + ("" if same_aspect_ratio else ", black added to keep the shape")
        )
        image = letterbox(image, height, width)
    return image, conversions
