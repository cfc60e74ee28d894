"""Deterministic changes to decoded images: grayscale, 8 bits, size, projection of a volume, and how pages display them."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def to_grayscale(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert an RGB image to grayscale.

    Args:
        image: (h, w) or (h, w, 3) uint8.

    Returns:
        (h, w) uint8: 0.299 red + 0.587 green + 0.114 blue (ITU-R BT.601), or `image` itself where it is grayscale already.
    """
    return image if image.ndim == 2 else np.asarray(Image.fromarray(image).convert("L"))


def to_uint8(image: NDArray[Any], white_level: float, black_level: float = 0.0) -> NDArray[np.uint8]:
    """Scale an image of any shape linearly so that `black_level` becomes 0 and `white_level` 255, and clip what lies beyond.

    An image that is uint8 already is returned as it is.
    """
    if image.dtype == np.uint8:
        return image
    return np.rint(np.clip((image - float(black_level)) * (255 / (white_level - black_level)), 0, 255)).astype(np.uint8)


def letterbox(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize an image to (height, width) pixels without changing its aspect ratio.

    The image is scaled with Pillow's bicubic filter, which is what the training images went through, until it just fits;
    the rest is black.

    Args:
        image: (h, w) or (h, w, 3) uint8.
        height: rows of the result.
        width: columns of the result.

    Returns:
        (height, width) or (height, width, 3) uint8.
    """
    if image.shape[:2] == (height, width):
        return image
    scale = min(height / image.shape[0], width / image.shape[1])
    h, w = (max(1, min(limit, round(side * scale))) for side, limit in zip(image.shape, (height, width), strict=False))
    resized = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BICUBIC))
    if (h, w) == (height, width):
        return resized
    canvas = np.zeros((height, width, *image.shape[2:]), dtype=np.uint8)
    top, left = (height - h) // 2, (width - w) // 2
    canvas[top : top + h, left : left + w] = resized
    return canvas


def resize_images(images: NDArray[np.uint8], size: int = 28) -> NDArray[np.uint8]:
    """Resize grayscale images with Pillow's bicubic filter, which antialiases when it shrinks.

    Args:
        images: (n, h, w) uint8.
        size: pixels per side of the result.

    Returns:
        (n, size, size) uint8.

    Raises:
        ValueError: `images` is not 3-D uint8, or `size` is below 1.
    """
    if images.ndim != 3 or images.dtype != np.uint8 or size < 1:
        raise ValueError(f"images must be uint8 (n, h, w) and size >= 1, not {images.dtype} {images.shape} and {size}")
    resized = np.empty((len(images), size, size), dtype=np.uint8)
    for index, image in enumerate(images):
        resized[index] = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
    return resized


def max_project(volumes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the maximum over the slices of each volume, (n, z, h, w) uint8 -> (n, h, w) uint8.

    Raises:
        ValueError: `volumes` is not 4-D uint8 with at least one slice.
    """
    if volumes.ndim != 4 or volumes.dtype != np.uint8 or volumes.shape[1] == 0:
        raise ValueError(f"volumes must be uint8 (n, z, h, w) with z >= 1, not {volumes.dtype} {volumes.shape}")
    projected: NDArray[np.uint8] = volumes.max(axis=1)
    return projected


TILE_SIDE = 112
"""Pixels per side to which a smaller image is enlarged; the browser smooths any further enlargement."""
_HEATMAP_COLOR, _HEATMAP_OPACITY = (255, 140, 40), 0.55


def to_display(image: NDArray[np.uint8], side: int = TILE_SIDE) -> NDArray[np.uint8]:
    """Return an image of a cell, (h, w) or (h, w, 3) uint8, brightened and enlarged for display.

    A grayscale image is stretched so that its 99.8th percentile becomes white, since most nuclei use only a fifth of the
    range; colors stay. An image below `side` pixels is enlarged smoothly (bicubic), a larger one keeps its size.
    """
    if image.ndim == 2:
        white_level = max(1.0, float(np.percentile(image, 99.8)))
        image = np.clip(image * (255 / white_level), 0, 255).astype(np.uint8)
    zoom = side / max(image.shape[:2])
    if zoom <= 1:
        return image
    height, width = (max(1, round(edge * zoom)) for edge in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def overlay_heatmap(image: NDArray[np.uint8], heatmap: NDArray[np.float32], side: int = TILE_SIDE) -> NDArray[np.uint8]:
    """Return an image prepared by `to_display` with a heatmap over it in orange, (h, w, 3) uint8.

    `heatmap` is (h', w') from 0 to 1, of any size.
    """
    tile = to_display(image, side)
    rgb = tile if tile.ndim == 3 else np.repeat(tile[..., None], 3, axis=2)
    size = (rgb.shape[1], rgb.shape[0])
    resized_heatmap = np.asarray(Image.fromarray(heatmap.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    opacity = (_HEATMAP_OPACITY * np.clip(resized_heatmap, 0, 1) ** 1.5)[..., None]
    return np.asarray(np.rint(rgb * (1 - opacity) + np.array(_HEATMAP_COLOR) * opacity), dtype=np.uint8)


def png_data_uri(image: NDArray[np.uint8], side: int = TILE_SIDE) -> str:
    """Return an image prepared by `to_display` as a ``data:`` URI of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(to_display(image, side)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
