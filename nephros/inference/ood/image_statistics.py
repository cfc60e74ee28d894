"""Brightness, contrast and sharpness of pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IMAGE_STATISTICS = {
    "brightness": ("mean of the pixels, 0 to 255", "too dark", "too bright"),
    "contrast": ("standard deviation of the pixels", "too flat", "too much contrast"),
    "sharpness": ("variance of the Laplacian of the pixels", "too smooth", "too sharp or noisy"),
}
"""What is measured of each picture: its definition, and what to say of a low and of a high value."""
_STATISTICS_CHUNK = 8192


def mean_over_channels(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (n, h, w) of (n, h, w) or (n, h, w, c) pictures, colours averaged."""
    x = cells.astype(np.float32)
    return x.mean(axis=3) if x.ndim == 4 else x


def image_statistics(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (n, 3) brightness, contrast and sharpness of (n, h, w) or (n, h, w, c) pictures, colours averaged.

    The Laplacian is the sum of the four neighbours less four times the pixel, inside the border; pictures narrower than
    three pixels have a sharpness of 0.
    """
    chunks = [
        grayscale_statistics(mean_over_channels(cells[start : start + _STATISTICS_CHUNK]))
        for start in range(0, len(cells), _STATISTICS_CHUNK)
    ]
    return np.concatenate(chunks) if chunks else np.empty((0, len(IMAGE_STATISTICS)), dtype=np.float32)


def grayscale_statistics(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what `image_statistics` does, of (n, h, w) grey pictures."""
    laplacian = (
        images[:, :-2, 1:-1]
        + images[:, 2:, 1:-1]
        + images[:, 1:-1, :-2]
        + images[:, 1:-1, 2:]
        - 4 * images[:, 1:-1, 1:-1]
    )
    sharpness = laplacian.var(axis=(1, 2)) if laplacian.size else np.zeros(len(images), dtype=np.float32)
    return np.stack([images.mean(axis=(1, 2)), images.std(axis=(1, 2)), sharpness], axis=1)
