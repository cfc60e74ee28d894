"""A stack and its mask seen from above: the brightest pixel over the slices, and whose nucleus it is that one sees."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.reader import Slice

MAX_SIDE = 8192
"""Pixels a side of the result; of larger stacks every second, third, ... pixel is taken."""


_BAND_ROWS = 256
"""Rows worked on at a time."""


def project_stack(
    slice_pairs: Iterable[tuple[Slice, Slice]],
    shape: tuple[int, int, int],
    ids: NDArray[np.int64],
    mean_intensity: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.int32], int]:
    """Return the maximum over slices, (h, w) float32, the nucleus at each pixel, (h, w) int32, and the stride.

    Where nuclei lie above each other, the one shows that is brighter on the whole; of equals, the one with the higher number.

    Args:
        pairs: slices of the stack and its mask.
        ids: (n,) the mask's numbers that count, rising; the result has 1 + the place in `ids`, and 0 elsewhere.
        brightness: (n,) of each nucleus.
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
