"""The maximum projection of a stack, and the nucleus that is visible at each of its pixels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.reader import Slice

MAX_SIDE = 8192
"""Largest side of the projection, in pixels; of larger stacks every second, third, ... pixel is taken."""
_BAND_ROWS = 256
"""Rows that are processed at a time."""


def project_stack(
    slice_pairs: Iterable[tuple[Slice, Slice]],
    shape: tuple[int, int, int],
    ids: NDArray[np.int64],
    mean_intensity: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.int32], int]:
    """Project a stack and its mask along z.

    Where nuclei lie above each other, the one with the higher mean intensity is visible, and of equals the one with the higher
    id.

    Args:
        slice_pairs: the slices of the stack and of its mask.
        shape: slices, rows and columns of the stack.
        ids: (n,) int64, ascending, the ids of the nuclei to show.
        mean_intensity: (n,) of each nucleus.

    Returns:
        The maximum over slices, (h, w) float32; the visible nucleus at each pixel, (h, w) int32, as 1 + its index in `ids`, and
        0 where there is none; and the stride in pixels.
    """
    stride = -(-max(shape[1:]) // MAX_SIDE)
    height, width = (-(-side // stride) for side in shape[1:])
    projection = np.full((height, width), -np.inf, np.float32)
    visible_nuclei = np.zeros((height, width), np.int32)
    rank = np.zeros(len(ids) + 1, np.int32)
    rank[1 + np.argsort(mean_intensity, kind="stable")] = np.arange(1, len(ids) + 1)
    for pixels, mask_slice in slice_pairs:
        np.maximum(projection, pixels[::stride, ::stride], out=projection, casting="unsafe")
        for top in range(0, height, _BAND_ROWS):
            mask_band, visible_band = (
                mask_slice[::stride, ::stride][top : top + _BAND_ROWS],
                visible_nuclei[top : top + _BAND_ROWS],
            )
            foreground = np.nonzero(mask_band)
            mask_ids = mask_band[foreground].astype(np.int64)
            indices = np.minimum(np.searchsorted(ids, mask_ids), len(ids) - 1)
            candidates = np.where(ids[indices] == mask_ids, indices + 1, 0)
            visible_band[foreground] = np.where(
                rank[candidates] > rank[visible_band[foreground]], candidates, visible_band[foreground]
            )
    return projection, visible_nuclei, stride
