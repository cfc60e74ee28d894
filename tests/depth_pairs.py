"""Synthetic volumes whose two classes differ in depth alone: two blobs, in the same slices or in different ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHAPE = (6, 16, 16)
"""Slices, rows and columns."""
CLASS_NAMES = ("same depth", "different depth")
_SIDE, _THICKNESS = 3, 2


def depth_pairs(n: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return volumes (n, 6, 16, 16) uint8 and their labels (n,).

    Each holds two blobs of 2x3x3 voxels, one in the left half and one in the right half at random places, in the first or the
    last two slices. In class 0 both are at the same depth, in class 1 at different ones, so that the maximum over the slices has
    the same distribution in both, and reversing the slices changes no label.
    """
    rng = np.random.default_rng(seed)
    volumes = rng.integers(0, 40, (n, *SHAPE)).astype(np.uint8)
    labels = np.arange(n) % 2
    for volume, label in zip(volumes, labels.tolist(), strict=True):
        first = int(rng.integers(2))
        for half, is_deep in enumerate((first, first ^ label)):
            z = SHAPE[0] - _THICKNESS if is_deep else 0
            y, x = rng.integers(1, SHAPE[1] - _SIDE), half * 8 + rng.integers(1, 8 - _SIDE)
            volume[z : z + _THICKNESS, y : y + _SIDE, x : x + _SIDE] = rng.integers(150, 250)
    return volumes, labels.astype(np.int64)
