"""Exact means and standard deviations of the pixels of many images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MIN_STD = 1e-3
"""Standard deviation in place of 0, so that it can be a divisor."""
CHUNK_PIXELS = 1 << 20
"""Pixels that are read at a time: few enough that numpy's copy of them stays in the processor's cache."""


def channel_statistics(images: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of each channel's pixels, divided by 255.

    `images` is (n, h, w) or (n, h, w, c) uint8. A standard deviation of 0 is returned as 1e-3, so that it can be a divisor.
    """
    mean, mean_square = _channel_moments(images)
    return mean.tolist(), np.maximum(np.sqrt(np.maximum(mean_square - mean**2, 0)), MIN_STD).tolist()


def pixel_statistics(images: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the mean and standard deviation of all pixels of all channels together, divided by 255.

    `images` is (n, h, w) or (n, h, w, c) uint8.
    """
    mean, mean_square = (float(moment.mean()) for moment in _channel_moments(images))
    return mean, float(np.sqrt(max(mean_square - mean**2, 0.0)))


def _channel_moments(images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the means of x and of x squared of each channel, (c,) float64 both, of pixels divided by 255.

    They are exact: pixels are counted by value, a chunk at a time, so that memory-mapped images will do.
    """
    channels = 1 if images.ndim == 3 else images.shape[3]
    counts = np.zeros((channels, 256), dtype=np.int64)
    chunk_size = max(1, CHUNK_PIXELS // int(np.prod(images.shape[1:])))
    for start in range(0, len(images), chunk_size):
        chunk = images[start : start + chunk_size].reshape(-1, channels)
        for channel in range(channels):
            counts[channel] += _value_counts(np.ascontiguousarray(chunk[:, channel]))
    frequencies = counts / counts.sum(axis=1, keepdims=True)
    values = np.arange(256) / 255
    return frequencies @ values, frequencies @ values**2


def _value_counts(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how many of the pixels (n,) have each value, (256,): counted in pairs, which takes half as long."""
    n_paired = len(pixels) // 2 * 2
    pairs = np.bincount(pixels[:n_paired].view(np.uint16), minlength=1 << 16).reshape(256, 256)
    counts: NDArray[np.int64] = pairs.sum(axis=0) + pairs.sum(axis=1)
    return counts + np.bincount(pixels[n_paired:], minlength=256)
