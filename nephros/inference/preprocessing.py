"""From a decoded image to a cell of the model's input shape, by the rules that `nephros predict --help` states."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.image_decoding import MIN_SIDE
from nephros.data.image_transforms import letterbox, to_grayscale, to_uint8

CellShape = tuple[int, int, int]
"""A model's input shape: channels (1 or 3), height, width."""


def rejection_reason(name: object, image: NDArray[Any]) -> str:
    """Return why an image can't be a cell, as one sentence that begins with `name`; empty if it can."""
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        return (
            f"{name} has {width}x{height} pixels, too few to show a cell; use images of at least {MIN_SIDE}x{MIN_SIDE}."
        )
    if image.dtype != np.uint8 and image.min() < 0:
        return f"{name} has negative pixels; save it as unsigned 8-bit or 16-bit."
    return ""


def preprocess(image: NDArray[Any], shape: CellShape, white_level: float) -> tuple[NDArray[np.uint8], list[str]]:
    """Return an image as a (height, width) or (height, width, 3) uint8 cell, and the conversions that it took.

    Args:
        image: as `nephros.data.image_decoding.decode_pages` yields it, without a `rejection_reason`.
        shape: the model's input shape.
        white_level: pixel value that becomes 255 in images of more than 8 bits.
    """
    channels, height, width = shape
    conversions: list[str] = []
    if image.dtype != np.uint8:
        image = to_uint8(image, white_level)
        conversions.append(f"16-bit pixels scaled to 8-bit: {white_level:g} became 255")
    if image.ndim == 3 and channels == 1:
        image = to_grayscale(image)
        conversions.append("color converted to grayscale (0.299 red + 0.587 green + 0.114 blue)")
    if image.ndim == 2 and channels == 3:
        image = np.repeat(image[..., None], 3, axis=2)
        conversions.append("grayscale repeated in all three channels")
    if image.shape[:2] != (height, width):
        same_aspect_ratio = image.shape[0] * width == image.shape[1] * height
        padding = "" if same_aspect_ratio else ", padded with black to keep the aspect ratio"
        conversions.append(f"resized to {width}x{height} pixels (bicubic){padding}")
        image = letterbox(image, height, width)
    return image, conversions
