"""From a decoded picture to a cell of the model's shape, by the rules that `nephros predict --help` states."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.image_decoding import LEAST_SIDE, fit_into, to_eight_bits, to_grey

Shape = tuple[int, int, int]
"""Channels (1 or 3), height and width that a model needs."""


def wrong(name: object, image: NDArray[Any]) -> str:
    """Return in one sentence, beginning with `name`, why the picture can't be a cell, or nothing."""
    height, width = image.shape[:2]
    if min(height, width) < LEAST_SIDE:
        return f"{name} has {width}x{height} pixels, too few to show a cell; give at least {LEAST_SIDE} a side."
    if image.dtype != np.uint8 and image.min() < 0:
        return f"{name} has negative pixels; save it with 8 or 16 unsigned bits."
    return ""


def fitted(image: NDArray[Any], shape: Shape, white: float) -> tuple[NDArray[np.uint8], list[str]]:
    """Return the picture as a (height, width) or (height, width, 3) uint8 cell, and what was done to it.

    `image` is as `nephros.data.image_decoding.decode` returns it, and nothing is `wrong` with it; `white` is what becomes 255
    of a picture with more than 8 bits.
    """
    channels, height, width = shape
    done: list[str] = []
    if image.dtype != np.uint8:
        image = to_eight_bits(image, white)
        done.append(f"16-bit pixels made 8-bit: {white:g} became 255")
    if image.ndim == 3 and channels == 1:
        image = to_grey(image)
        done.append("colour made grey (.299 red + .587 green + .114 blue)")
    if image.ndim == 2 and channels == 3:
        image = np.repeat(image[..., None], 3, axis=2)
        done.append("grey taken for all three colours")
    if image.shape[:2] != (height, width):
        same = image.shape[0] * width == image.shape[1] * height
        done.append(
            f"resized to {width}x{height} pixels (bicubic)" + ("" if same else ", black added to keep the shape")
        )
        image = fit_into(image, height, width)
    return image, done
