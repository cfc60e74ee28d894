"""The first reading of a stack and its mask: where each nucleus lies, how large and how bright it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.errors import UserError
from nephros.microscopy.reader import Slice, Stack

BLOCK = 1 << 21
"""Pixels worked on at a time."""

_TOO_LARGE = 1e30
"""No camera's pixel, and float32 still holds its sums."""

_COUNT, _Z, _Y, _X, _SUM, _EDGE_Z, _EDGE_YX = range(7)


@dataclass(frozen=True)
class Nuclei:
    """All nuclei of a mask, by rising number."""

    ids: NDArray[np.int64]
    voxels: NDArray[np.int64]
    centroids: NDArray[np.float64]
    """(n, 3): z, y and x in voxels, the middle of the first voxel being 0."""
    brightness: NDArray[np.float64]
    """Mean of the stack's pixels over the nucleus."""
    at_edge: NDArray[np.bool_]
    """(n, 2): whether a nucleus touches the stack's edge along z, and along y or x, and so may go on beyond it."""

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, wanted: NDArray[np.bool_]) -> Nuclei:
        """Return only the nuclei where `wanted`, (n,) bool, says so."""
        return Nuclei(
            self.ids[wanted],
            self.voxels[wanted],
            self.centroids[wanted],
            self.brightness[wanted],
            self.at_edge[wanted],
        )


def check_pair(stack: Stack, mask: Stack) -> None:
    """Raise UserError unless `mask` can be the instance mask of `stack`."""
    if mask.dtype.kind not in "ui":
        what = "true and false only" if mask.dtype.kind == "b" else f"pixels of type {mask.dtype}"
        raise UserError(f"{mask.path} has {what}; a mask holds whole numbers: 0 outside, and each nucleus its own.")
    if mask.shape != stack.shape:
        raise UserError(
            f"{mask.path} has the shape {mask.shape} (slices, rows, columns) and {stack.path.name} {stack.shape}; "
            "they must be of one size, voxel for voxel."
        )


def measure(stack: Stack, mask: Stack, pairs: Iterable[tuple[Slice, Slice]]) -> tuple[Nuclei, tuple[float, float]]:
    """Return the nuclei and the stack's least and greatest pixel.

    Args:
        pairs: the slices of both, from the first to the last.

    Raises:
        UserError: the stack has NaN or one brightness only, or the mask no nucleus or negative numbers.
    """
    rows: dict[int, int] = {}
    sums = np.zeros((7, 1024))
    least, greatest = np.inf, -np.inf
    depth, height, width = stack.shape
    for z, (pixels, marks) in enumerate(pairs):
        low, high = float(pixels.min()), float(pixels.max())
        if not (np.isfinite([low, high]).all() and max(abs(low), abs(high)) < _TOO_LARGE):
            raise UserError(
                f"{stack.path} has pixels that are not numbers (NaN or infinite) or absurdly large in slice {z}; mend them."
            )
        least, greatest = min(least, low), max(greatest, high)
        for top, part, numbers in _blocks(pixels, marks):
            where = np.flatnonzero(numbers)
            found, which = np.unique(numbers.ravel()[where], return_inverse=True)
            if len(found) and not 0 <= found[0] <= found[-1] < 1 << 53:
                strange = found[0] if found[0] < 0 else found[-1]
                raise UserError(f"{mask.path} has the number {strange}; a mask's numbers count nuclei from 1.")
            at = np.array([rows.setdefault(number, len(rows)) for number in found.tolist()], dtype=np.int64)
            while len(rows) > sums.shape[1]:
                sums = np.concatenate([sums, np.zeros_like(sums)], axis=1)
            y, x = top + where // width, where % width
            edge = (y == 0) | (y == height - 1) | (x == 0) | (x == width - 1)
            count = np.bincount(which, minlength=len(found))
            sums[_COUNT, at] += count
            sums[_Z, at] += count * z
            sums[_EDGE_Z, at] += z in (0, depth - 1)
            for row, weights in ((_Y, y), (_X, x), (_SUM, part.ravel()[where]), (_EDGE_YX, edge)):
                sums[row, at] += np.bincount(which, weights=weights, minlength=len(found))
    if not rows:
        raise UserError(f"{mask.path} marks no nucleus: all of it is 0.")
    if least == greatest:
        raise UserError(f"{stack.path} shows nothing: every pixel is {least:g}.")
    ids = np.fromiter(rows, dtype=np.int64, count=len(rows))
    order = np.argsort(ids)
    sums = sums[:, : len(rows)][:, order]
    nuclei = Nuclei(
        ids[order],
        sums[_COUNT].astype(np.int64),
        (sums[[_Z, _Y, _X]] / sums[_COUNT]).T,
        sums[_SUM] / sums[_COUNT],
        (sums[[_EDGE_Z, _EDGE_YX]] > 0).T,
    )
    return nuclei, (least, greatest)


def _blocks(pixels: Slice, marks: Slice) -> Iterator[tuple[int, Slice, Slice]]:
    """Cut two slices into bands of whole rows: the first row, and the band of each."""
    step = max(1, BLOCK // pixels.shape[1])
    for top in range(0, len(pixels), step):
        yield top, pixels[top : top + step], marks[top : top + step]
