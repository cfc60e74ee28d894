"""A cell made ready to look at: brighter, larger, and as an address that a page can hold."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TILE = 112
"""Pixels a side to which a smaller cell is enlarged; a viewer smooths the rest of the way."""
_ORANGE, _STRENGTH = (255, 140, 40), 0.55


def enlarge(image: NDArray[np.uint8], side: int = TILE) -> NDArray[np.uint8]:
    """Return a cell, (h, w) or (h, w, 3) uint8, made ready to look at.

    A grey cell's brightness is stretched so that its 99.8th percentile is white, since most nuclei fill only a fifth of
    the range; colours are left alone. A cell below `side` pixels is enlarged smoothly (bicubic), a larger one kept.
    """
    if image.ndim == 2:
        white = max(1.0, float(np.percentile(image, 99.8)))
        image = np.clip(image * (255 / white), 0, 255).astype(np.uint8)
    times = side / max(image.shape[:2])
    if times <= 1:
        return image
    height, width = (max(1, round(edge * times)) for edge in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def overlay(image: NDArray[np.uint8], heat: NDArray[np.float32], side: int = TILE) -> NDArray[np.uint8]:
    """Return a cell, enlarged, as (h, w, 3) uint8 with `heat`, (h', w') from 0 to 1, laid over it in orange."""
    cell = enlarge(image, side)
    colour = cell if cell.ndim == 3 else np.repeat(cell[..., None], 3, axis=2)
    size = (colour.shape[1], colour.shape[0])
    smooth = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    share = (_STRENGTH * np.clip(smooth, 0, 1) ** 1.5)[..., None]
    return np.asarray(np.rint(colour * (1 - share) + np.array(_ORANGE) * share), dtype=np.uint8)


def png_address(image: NDArray[np.uint8]) -> str:
    """Return a cell, enlarged, as a ``data:`` address that a page can show."""
    file = io.BytesIO()
    Image.fromarray(enlarge(image)).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
