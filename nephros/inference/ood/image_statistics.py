"""Brightness, contrast and sharpness of pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MEASURES = {
    "brightness": ("mean of the pixels, 0 to 255", "too dark", "too bright"),
    "contrast": ("standard deviation of the pixels", "too flat", "too much contrast"),
    "sharpness": ("variance of the Laplacian of the pixels", "too smooth", "too sharp or noisy"),
}
"""What is measured of each picture: its definition, and what to say of a low and of a high value."""
_ROWS = 8192


def grey(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (n, h, w) of (n, h, w) or (n, h, w, c) pictures, colours averaged."""
    x = cells.astype(np.float32)
    return x.mean(axis=3) if x.ndim == 4 else x


def measures(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (n, 3) brightness, contrast and sharpness of (n, h, w) or (n, h, w, c) pictures, colours averaged.

    The Laplacian is the sum of the four neighbours less four times the pixel, inside the border; pictures narrower than
    three pixels have a sharpness of 0.
    """
    parts = [measured(grey(cells[start : start + _ROWS])) for start in range(0, len(cells), _ROWS)]
    return np.concatenate(parts) if parts else np.empty((0, len(MEASURES)), dtype=np.float32)


def measured(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what `measures` does, of (n, h, w) grey pictures."""
    laplacian = x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:] - 4 * x[:, 1:-1, 1:-1]
    sharpness = laplacian.var(axis=(1, 2)) if laplacian.size else np.zeros(len(x), dtype=np.float32)
    return np.stack([x.mean(axis=(1, 2)), x.std(axis=(1, 2)), sharpness], axis=1)
