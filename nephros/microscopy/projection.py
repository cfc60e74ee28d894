"""A stack and its mask seen from above: the brightest pixel over the slices, and whose nucleus it is that one sees."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.reader import Slice

WIDEST = 8192
"""Pixels a side of the result; of larger stacks every second, third, ... pixel is taken."""


_BAND = 256
"""Rows worked on at a time."""


def flatten(
    pairs: Iterable[tuple[Slice, Slice]],
    shape: tuple[int, int, int],
    ids: NDArray[np.int64],
    brightness: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.int32], int]:
    """Return the maximum over slices, (h, w) float32, the nucleus at each pixel, (h, w) int32, and the stride.

    Where nuclei lie above each other, the one shows that is brighter on the whole; of equals, the one with the higher number.

    Args:
        pairs: slices of the stack and its mask.
        ids: (n,) the mask's numbers that count, rising; the result has 1 + the place in `ids`, and 0 elsewhere.
        brightness: (n,) of each nucleus.
    """
    stride = -(-max(shape[1:]) // WIDEST)
    height, width = (-(-side // stride) for side in shape[1:])
    light = np.full((height, width), -np.inf, np.float32)
    seen = np.zeros((height, width), np.int32)
    rank = np.zeros(len(ids) + 1, np.int32)
    rank[1 + np.argsort(brightness, kind="stable")] = np.arange(1, len(ids) + 1)
    for pixels, marks in pairs:
        np.maximum(light, pixels[::stride, ::stride], out=light, casting="unsafe")
        for top in range(0, height, _BAND):
            here, there = marks[::stride, ::stride][top : top + _BAND], seen[top : top + _BAND]
            marked = np.nonzero(here)
            numbers = here[marked].astype(np.int64)
            places = np.minimum(np.searchsorted(ids, numbers), len(ids) - 1)
            new = np.where(ids[places] == numbers, places + 1, 0)
            there[marked] = np.where(rank[new] > rank[there[marked]], new, there[marked])
    return light, seen, stride
