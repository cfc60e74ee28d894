"""Negative controls: synthetic images without a cell, on which an out-of-distribution detector is measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CONTROL_DESCRIPTIONS = {
    "noise": "independent uniform pixels",
    "constant": "a single gray value, 0 to 255",
    "gradients": "a ramp with smooth 1/f texture, as in photographs, at the brightness and contrast of validation cells",
    "inverted_cells": "255 - pixel of validation cells",
    "scrambled_cells": "validation cells with their pixels in random order",
}


def negative_controls(
    reference_cells: NDArray[np.uint8], n_per_kind: int = 1000, seed: int = 0
) -> dict[str, NDArray[np.uint8]]:
    """Return `n_per_kind` images of each kind in `CONTROL_DESCRIPTIONS`, of the same shape as the reference cells.

    `reference_cells` are (m, h, w) or (m, h, w, c) uint8 validation cells.
    """
    generator = np.random.default_rng(seed)
    cells = reference_cells[
        np.sort(generator.choice(len(reference_cells), n_per_kind, replace=len(reference_cells) < n_per_kind))
    ]
    shape = cells.shape
    constant = generator.integers(0, 256, (n_per_kind, *[1] * (cells.ndim - 1)), dtype=np.uint8)
    pixels = cells.reshape(n_per_kind, shape[1] * shape[2], -1)
    order = generator.random(pixels.shape[:2]).argsort(axis=1)
    return {
        "noise": generator.integers(0, 256, shape, dtype=np.uint8),
        "constant": np.broadcast_to(constant, shape).copy(),
        "gradients": _gradient_images(generator, cells),
        "inverted_cells": 255 - cells,
        "scrambled_cells": np.take_along_axis(pixels, order[..., None], axis=1).reshape(shape),
    }


def _gradient_images(generator: np.random.Generator, cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    n, height, width = cells.shape[:3]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    angle = generator.uniform(0, 2 * np.pi, (n, 1, 1))
    ramp = np.cos(angle) * x + np.sin(angle) * y
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    frequency[0, 0] = np.inf
    texture = np.fft.ifft2(np.fft.fft2(generator.standard_normal((n, height, width))) / frequency).real
    texture_images = ramp + 0.4 * texture / texture.std(axis=(1, 2), keepdims=True)
    texture_images /= texture_images.std(axis=(1, 2), keepdims=True)
    pixels = cells.reshape(n, -1)
    intensities = pixels.mean(1)[:, None, None] + pixels.std(1)[:, None, None] * texture_images
    images = np.clip(intensities, 0, 255).astype(np.uint8)
    return images if cells.ndim == 3 else np.repeat(images[..., None], cells.shape[3], axis=3)
