"""The pixels above which each nucleus of a mask lies, seen along z; read slice by slice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.measurements import BLOCK_PIXELS
from nephros.microscopy.stack import Slice
from nephros.tissue.outlines import Polygon, trace_labels

MAX_BOX_PIXELS = 1 << 22
"""Pixels of a nucleus's bounding box above which it has no footprint."""
MAX_TOTAL_PIXELS = 1 << 30
"""Pixels of all bounding boxes together, at a byte each; the largest nuclei beyond it have no footprint."""


class Footprints:
    """Footprints of n nuclei. First `find_boxes` of every slice of the mask, then `fill` with every slice again."""

    def __init__(self, ids: NDArray[np.int64]) -> None:
        """Take the ids of the nuclei, (n,) in ascending order; others in the mask are ignored."""
        self.ids = ids
        n, far = len(ids), np.iinfo(np.int64).max
        self._top, self._left = np.full(n, far), np.full(n, far)
        self._bottom, self._right = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self._offsets: NDArray[np.int64] | None = None
        self._pixels = np.zeros(0, np.bool_)

    def find_boxes(self, mask_slice: Slice) -> None:
        """Extend the nuclei's bounding boxes to a slice."""
        for rows, y, x in self._iter_foreground(mask_slice):
            np.minimum.at(self._top, rows, y)
            np.minimum.at(self._left, rows, x)
            np.maximum.at(self._bottom, rows, y + 1)
            np.maximum.at(self._right, rows, x + 1)

    def fill(self, mask_slice: Slice) -> None:
        """Add the pixels of a slice to the footprints."""
        offsets, widths = self._allocate(), self._right - self._left
        for rows, y, x in self._iter_foreground(mask_slice):
            is_stored = offsets[rows] >= 0
            rows, y, x = rows[is_stored], y[is_stored], x[is_stored]
            self._pixels[offsets[rows] + (y - self._top[rows]) * widths[rows] + x - self._left[rows]] = True

    def __getitem__(self, row: int) -> tuple[NDArray[np.bool_], int, int] | None:
        """Return a nucleus's footprint, (h, w) bool, and the column and the row of its first pixel; None if it is too large."""
        offsets = self._allocate()
        if offsets[row] < 0:
            return None
        height, width = int(self._bottom[row] - self._top[row]), int(self._right[row] - self._left[row])
        start = int(offsets[row])
        pixels = self._pixels[start : start + height * width].reshape(height, width)
        return pixels, int(self._left[row]), int(self._top[row])

    def iter_outlines(self) -> Iterator[list[Polygon] | None]:
        """Yield the outlines of each nucleus, as `nephros.tissue.outlines.trace_labels` does; None where it has no footprint."""
        batch: list[tuple[NDArray[np.bool_], int, int] | None] = []
        width = height = 0
        for row in range(len(self.ids)):
            footprint = self[row]
            if footprint is not None:
                width, height = max(width, footprint[0].shape[1]), height + len(footprint[0])
            batch.append(footprint)
            if width * height > BLOCK_PIXELS:
                yield from _trace_batch(batch, width, height)
                batch, width, height = [], 0, 0
        yield from _trace_batch(batch, width, height)

    @property
    def n_missing(self) -> int:
        """Number of nuclei that are too large for a footprint."""
        return int((self._allocate() < 0).sum())

    def _allocate(self) -> NDArray[np.int64]:
        """Return where each nucleus's pixels begin, -1 for those without, and make room for them at the first call."""
        if self._offsets is None:
            areas = np.maximum(self._bottom - self._top, 0) * np.maximum(self._right - self._left, 0)
            order = np.argsort(areas, kind="stable")
            ends = np.cumsum(areas[order])
            is_stored = (areas[order] > 0) & (areas[order] <= MAX_BOX_PIXELS) & (ends <= MAX_TOTAL_PIXELS)
            self._offsets = np.full(len(areas), -1)
            self._offsets[order[is_stored]] = (ends - areas[order])[is_stored]
            self._pixels = np.zeros(int(ends[is_stored][-1]) if is_stored.any() else 0, np.bool_)
        return self._offsets

    def _iter_foreground(self, mask_slice: Slice) -> Iterator[tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]]:
        """Yield, for some rows of a slice at a time, nucleus, y and x of each pixel of a nucleus."""
        band_rows = max(1, BLOCK_PIXELS // mask_slice.shape[1])
        for top in range(0, len(mask_slice), band_rows):
            band = mask_slice[top : top + band_rows]
            y, x = np.nonzero(band)
            values = band[y, x].astype(np.int64)
            rows = np.minimum(np.searchsorted(self.ids, values), len(self.ids) - 1)
            is_listed = self.ids[rows] == values
            yield rows[is_listed], y[is_listed] + top, x[is_listed]


def _trace_batch(
    batch: list[tuple[NDArray[np.bool_], int, int] | None], width: int, height: int
) -> Iterator[list[Polygon] | None]:
    """Yield the outlines of footprints, traced together in one image in which they lie below each other."""
    sheet, tops, top = np.zeros((height, width), np.int32), [], 0
    for number, footprint in enumerate(batch, start=1):
        tops.append(top)
        if footprint is not None:
            pixels = footprint[0]
            sheet[top : top + len(pixels), : pixels.shape[1]] = number * pixels
            top += len(pixels)
    outlines = dict(trace_labels(sheet))
    for number, (footprint, top) in enumerate(zip(batch, tops, strict=True), start=1):
        if footprint is None:
            yield None
            continue
        corner = np.array([footprint[1], footprint[2] - top])
        yield [[ring + corner for ring in polygon] for polygon in outlines[number]]
