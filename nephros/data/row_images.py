"""Numbers in, images out: how an estimator that is given arrays in scikit-learn's manner makes uint8 images of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.images.array_images import read_array_images
from nephros.data.images.input_conversion import BrightestPixel, default_white_level
from nephros.data.images.transforms import letterbox, to_uint8
from nephros.data.volumes import read_volumes
from nephros.errors import InvalidArgument

MIN_IMAGE_SIDE = 8
"""Pixels per side that every network can halve three times."""


@dataclass(frozen=True)
class ImageEncoder:
    """How the training data's numbers became pixels; new data becomes pixels likewise."""

    black_level: float
    """Value that becomes 0."""
    white_level: float
    """Value that becomes 255, in any type but uint8 without negative numbers."""
    side: int | None
    """Pixels per side of a flattened image; None where X holds images."""
    zoom: int
    """By which each pixel of an image below `MIN_IMAGE_SIDE` is repeated."""

    @classmethod
    def fit(cls, X: NDArray[Any]) -> ImageEncoder:
        """Return the encoder of X: rows (n, d), or images (n, h, w), (n, h, w, c) or (n, c, h, w).

        Of rows and of negative numbers, the smallest and the largest number become 0 and 255; of other images what
        `nephros.predict` takes for them. Rows are square images; a row of another length is padded with the smallest number.
        """
        lowest, highest = float(X.min(initial=0)), float(X.max(initial=0))
        if X.ndim == 2:
            side = math.isqrt(X.shape[1] - 1) + 1
            return cls(lowest, highest if highest > lowest else lowest + 1, side, -(-MIN_IMAGE_SIDE // side))
        images = read_array_images(X, "X")
        height, width = images.blocks[0].shape[1:3]
        zoom = -(-MIN_IMAGE_SIDE // min(height, width))
        if lowest < 0:
            return cls(lowest, highest, None, zoom)
        return cls(0.0, default_white_level(BrightestPixel.of(X), X.dtype), None, zoom)

    def encode(self, X: NDArray[Any], size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Return (n, h, w) or (n, h, w, 3) uint8, resized to `size` (height, width) where that is given."""
        if self.side is not None:
            padding = ((0, 0), (0, self.side**2 - X.shape[1]))
            X = np.pad(X, padding, constant_values=self.black_level).reshape(-1, self.side, self.side)
        images = self._blocks(X)
        pixels = to_uint8(images, self.white_level, self.black_level)
        if self.zoom > 1:
            pixels = pixels.repeat(self.zoom, axis=1).repeat(self.zoom, axis=2)
        if size is None or pixels.shape[1:3] == size:
            return np.ascontiguousarray(pixels)
        return np.stack([letterbox(image, *size) for image in pixels])

    def _blocks(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return (n, h, w) or (n, h, w, 3) of the numbers as they are."""
        if X.ndim == 3:
            return X
        (block,) = read_array_images(X, "X").blocks
        if block.shape[3] not in (1, 3):
            expected = "images of one channel, or of three that are colors"
            raise InvalidArgument("X", f"an array of shape {X.shape}", expected)
        return block[..., 0] if block.shape[3] == 1 else block


@dataclass(frozen=True)
class VolumeEncoder:
    """As `ImageEncoder`, of volumes (n, d, h, w) of numbers from 0."""

    white_level: float

    @classmethod
    def fit(cls, X: NDArray[Any]) -> VolumeEncoder:
        """Return the encoder of X, whose brightest voxel, or 1 of floating-point ones up to 1, becomes 255 except in uint8."""
        return cls(default_white_level(BrightestPixel.of(X), X.dtype))

    def encode(self, X: NDArray[Any], size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Return (n, h, w, d) uint8; volumes are not resized."""
        assert size is None
        return np.ascontiguousarray(read_volumes(X, "X", self.white_level))
