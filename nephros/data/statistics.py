"""Mean and standard deviation of pixels, exactly, a piece at a time, so that a memory-mapped split will do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CHUNK_PIXELS = 1 << 22
"""Pixels read at a time."""


def channel_statistics(images: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation of each channel, of pixels divided by 255.

    `images` is (n, h, w) or (n, h, w, c) uint8. A deviation of 0 is given as 1e-3, so that one can divide by it.
    """
    mean, mean_square = _moments(images)
    return mean.tolist(), np.maximum(np.sqrt(np.maximum(mean_square - mean**2, 0)), 1e-3).tolist()


def pixel_statistics(images: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the mean and the standard deviation of all pixels of all channels together, divided by 255."""
    mean, mean_square = (float(moment.mean()) for moment in _moments(images))
    return mean, float(np.sqrt(max(mean_square - mean**2, 0.0)))


def _moments(images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the means of x and of x squared, each (c,) float64, of pixels divided by 255."""
    channels = 1 if images.ndim == 3 else images.shape[3]
    counts = np.zeros((channels, 256), dtype=np.int64)
    chunk_size = max(1, CHUNK_PIXELS // int(np.prod(images.shape[1:])))
    for start in range(0, len(images), chunk_size):
        chunk = images[start : start + chunk_size].reshape(-1, channels)
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[:, channel], minlength=256)
    frequencies = counts / counts.sum(axis=1, keepdims=True)
    values = np.arange(256) / 255
    return frequencies @ values, frequencies @ values**2
