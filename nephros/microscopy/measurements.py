"""The first reading of a stack and its mask: where each nucleus lies, how large and how bright it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.errors import NephrosError
from nephros.microscopy.reader import Slice, Stack

BLOCK_PIXELS = 1 << 21
"""Pixels worked on at a time."""

_MAX_INTENSITY = 1e30
"""No camera's pixel, and float32 still holds its sums."""

_COUNT, _Z, _Y, _X, _SUM, _EDGE_Z, _EDGE_YX = range(7)


@dataclass(frozen=True)
class NucleusProperties:
    """All nuclei of a mask, by rising number."""

    ids: NDArray[np.int64]
    voxels: NDArray[np.int64]
    centroids: NDArray[np.float64]
    """(n, 3): z, y and x in voxels, the middle of the first voxel being 0."""
    mean_intensity: NDArray[np.float64]
    """Mean of the stack's pixels over the nucleus."""
    touches_edge: NDArray[np.bool_]
    """(n, 2): whether a nucleus touches the stack's edge along z, and along y or x, and so may go on beyond it."""

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, selected: NDArray[np.bool_]) -> NucleusProperties:
        """Return only the nuclei where `selected`, (n,) bool, says so."""
        return NucleusProperties(
            self.ids[selected],
            self.voxels[selected],
            self.centroids[selected],
            self.mean_intensity[selected],
            self.touches_edge[selected],
        )


def check_mask_matches_stack(stack: Stack, mask: Stack) -> None:
    """Raise UserError unless `mask` can be the instance mask of `stack`."""
    if mask.dtype.kind not in "ui":
        pixel_kind = "true and false only" if mask.dtype.kind == "b" else f"pixels of type {mask.dtype}"
        raise NephrosError(
            f"{mask.path} has {pixel_kind}; a mask holds whole numbers: 0 outside, and each nucleus its own."
        )
    if mask.shape != stack.shape:
        raise NephrosError(
            f"{mask.path} has the shape {mask.shape} (slices, rows, columns) and {stack.path.name} {stack.shape}; "
            "they must be of one size, voxel for voxel."
        )


def measure_nuclei(
    stack: Stack, mask: Stack, slice_pairs: Iterable[tuple[Slice, Slice]]
) -> tuple[NucleusProperties, tuple[float, float]]:
    """Return the nuclei and the stack's least and greatest pixel.

    Args:
        pairs: the slices of both, from the first to the last.

    Raises:
        UserError: the stack has NaN or one brightness only, or the mask no nucleus or negative numbers.
    """
    column_of_id: dict[int, int] = {}
    sums = np.zeros((7, 1024))
    min_intensity, max_intensity = np.inf, -np.inf
    depth, height, width = stack.shape
    for z, (pixels, mask_slice) in enumerate(slice_pairs):
        low, high = float(pixels.min()), float(pixels.max())
        if not (np.isfinite([low, high]).all() and max(abs(low), abs(high)) < _MAX_INTENSITY):
            raise NephrosError(
                f"{stack.path} has pixels that are not numbers (NaN or infinite) or absurdly large in slice {z}; mend them."
            )
        min_intensity, max_intensity = min(min_intensity, low), max(max_intensity, high)
        for top, band, band_ids in _iter_bands(pixels, mask_slice):
            foreground = np.flatnonzero(band_ids)
            unique_ids, inverse = np.unique(band_ids.ravel()[foreground], return_inverse=True)
            if len(unique_ids) and not 0 <= unique_ids[0] <= unique_ids[-1] < 1 << 53:
                bad_id = unique_ids[0] if unique_ids[0] < 0 else unique_ids[-1]
                raise NephrosError(f"{mask.path} has the number {bad_id}; a mask's numbers count nuclei from 1.")
            columns = np.array(
                [column_of_id.setdefault(number, len(column_of_id)) for number in unique_ids.tolist()], dtype=np.int64
            )
            while len(column_of_id) > sums.shape[1]:
                sums = np.concatenate([sums, np.zeros_like(sums)], axis=1)
            y, x = top + foreground // width, foreground % width
            edge = (y == 0) | (y == height - 1) | (x == 0) | (x == width - 1)
            count = np.bincount(inverse, minlength=len(unique_ids))
            sums[_COUNT, columns] += count
            sums[_Z, columns] += count * z
            sums[_EDGE_Z, columns] += z in (0, depth - 1)
            for row, weights in ((_Y, y), (_X, x), (_SUM, band.ravel()[foreground]), (_EDGE_YX, edge)):
                sums[row, columns] += np.bincount(inverse, weights=weights, minlength=len(unique_ids))
    if not column_of_id:
        raise NephrosError(f"{mask.path} marks no nucleus: all of it is 0.")
    if min_intensity == max_intensity:
        raise NephrosError(f"{stack.path} shows nothing: every pixel is {min_intensity:g}.")
    ids = np.fromiter(column_of_id, dtype=np.int64, count=len(column_of_id))
    order = np.argsort(ids)
    sums = sums[:, : len(column_of_id)][:, order]
    nuclei = NucleusProperties(
        ids[order],
        sums[_COUNT].astype(np.int64),
        (sums[[_Z, _Y, _X]] / sums[_COUNT]).T,
        sums[_SUM] / sums[_COUNT],
        (sums[[_EDGE_Z, _EDGE_YX]] > 0).T,
    )
    return nuclei, (min_intensity, max_intensity)


def _iter_bands(pixels: Slice, mask_slice: Slice) -> Iterator[tuple[int, Slice, Slice]]:
    """Cut two slices into bands of whole rows: the first row, and the band of each."""
    step = max(1, BLOCK_PIXELS // pixels.shape[1])
    for top in range(0, len(pixels), step):
        yield top, pixels[top : top + step], mask_slice[top : top + step]
