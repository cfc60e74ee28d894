"""Images of cells prepared for display: brighter, larger, with a heatmap, and as data URIs for pages."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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


def png_data_uri(image: NDArray[np.uint8]) -> str:
    """Return an image prepared by `to_display` as a ``data:`` URI of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(to_display(image)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
