"""From a cell's 3-D stack to its 28x28 picture, the way TissueMNIST was made from 32x32x7 volumes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def max_project(volumes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the maximum over slices: (n, z, h, w) uint8 -> (n, h, w) uint8.

    Raises:
        ValueError: `volumes` is not 4-D uint8 with at least one slice.
    """
    if volumes.ndim != 4 or volumes.dtype != np.uint8 or volumes.shape[1] == 0:
        raise ValueError(f"volumes must be uint8 (n, z, h, w) with z >= 1, not {volumes.dtype} {volumes.shape}")
    projected: NDArray[np.uint8] = volumes.max(axis=1)
    return projected


def resize_images(images: NDArray[np.uint8], size: int = 28) -> NDArray[np.uint8]:
    """Resize each picture, (n, h, w) uint8 -> (n, size, size) uint8.

    Pillow's bicubic filter, which widens with the scale and so antialiases when it shrinks.

    Raises:
        ValueError: `images` is not 3-D uint8, or `size` is below 1.
    """
    if images.ndim != 3 or images.dtype != np.uint8 or size < 1:
        raise ValueError(f"images must be uint8 (n, h, w) and size >= 1, not {images.dtype} {images.shape} and {size}")
    resized = np.empty((len(images), size, size), dtype=np.uint8)
    for index, image in enumerate(images):
        resized[index] = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
    return resized
