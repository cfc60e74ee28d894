"""The first pass over a stack and its mask: position, size and intensity of each nucleus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.errors import FileError, IncompatibleError
from nephros.microscopy.mask_size import mask_size_advice
from nephros.microscopy.pieces import PieceFinder
from nephros.microscopy.stack import Slice, Stack
from nephros.microscopy.voxel_size import VoxelSize

BLOCK_PIXELS = 1 << 21
"""Pixels that are processed at a time."""

_MAX_INTENSITY = 1e30
"""Above any camera's intensities, and small enough for sums in float32."""

_COUNT, _Z, _Y, _X, _SUM, _EDGE_Z, _EDGE_YX = range(7)
"""Rows of the running sums."""


@dataclass(frozen=True)
class NucleusProperties:
    """Properties of n nuclei in ascending order of their ids."""

    ids: NDArray[np.int64]
    """(n,) values in the mask."""
    voxels: NDArray[np.int64]
    """(n,) volumes in voxels."""
    centroids: NDArray[np.float64]
    """(n, 3): z, y and x in voxels; the center of the first voxel is 0. Voxels far from the largest piece don't count."""
    mean_intensity: NDArray[np.float64]
    """(n,) means of the stack's voxels over each nucleus."""
    touches_edge: NDArray[np.bool_]
    """(n, 2): whether a nucleus touches the stack's edge along z, and along y or x, and so may continue beyond it."""
    far_voxels: NDArray[np.int64]
    """(n,) voxels that are not part of the largest compact piece; see `nephros.microscopy.pieces`."""

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, selected: NDArray[np.bool_]) -> NucleusProperties:
        """Return the nuclei for which `selected`, (n,) bool, is true."""
        return NucleusProperties(
            self.ids[selected],
            self.voxels[selected],
            self.centroids[selected],
            self.mean_intensity[selected],
            self.touches_edge[selected],
            self.far_voxels[selected],
        )


def check_mask_matches_stack(stack: Stack, mask: Stack) -> None:
    """Check that `mask` can be the instance mask of `stack`.

    Raises:
        FileError: the mask does not hold integers.
        IncompatibleError: the two differ in shape.
    """
    if mask.dtype.kind not in "ui":
        pixel_kind = "only true and false" if mask.dtype.kind == "b" else f"pixels of type {mask.dtype}"
        raise FileError(
            mask.path,
            f"{mask.path} has {pixel_kind}; a mask holds integers: 0 outside, and a unique positive id per nucleus.",
        )
    if mask.shape != stack.shape and stack.shape[0] == 1 and stack.n_channels == mask.shape[0]:
        raise IncompatibleError(
            f"{mask.path} has {mask.shape[0]} slices, and {stack.path.name} has one slice and as many channels, which seem to be "
            "its slices; set `axes` to ZYX and leave out `channel`."
        )
    if mask.shape != stack.shape:
        raise IncompatibleError(
            f"{mask.path} has the shape {mask.shape} (slices, rows, columns) and {stack.path.name} {stack.shape}; "
            f"{mask_size_advice(stack, mask)}."
        )


def measure_nuclei(
    stack: Stack, mask: Stack, slice_pairs: Iterable[tuple[Slice, Slice]], step: VoxelSize = (1.0, 1.0, 1.0)
) -> tuple[NucleusProperties, tuple[float, float]]:
    """Measure all nuclei, and the lowest and highest intensity of the stack.

    Args:
        stack: named in errors.
        mask: named in errors.
        slice_pairs: the slices of both, from first to last.
        step: stack voxels per training voxel, along z, y and x.

    Raises:
        FileError: the stack has NaN or a single intensity, or the mask no nucleus or negative values.
    """
    running_sums = _RunningSums(mask, step)
    min_intensity, max_intensity = np.inf, -np.inf
    depth = stack.shape[0]
    for z, (pixels, mask_slice) in enumerate(slice_pairs):
        low, high = float(pixels.min()), float(pixels.max())
        if not (np.isfinite([low, high]).all() and max(abs(low), abs(high)) < _MAX_INTENSITY):
            raise FileError(
                stack.path,
                f"{stack.path} has intensities that are not numbers (NaN or infinite) or absurdly large in slice {z}; "
                "correct them.",
            )
        min_intensity, max_intensity = min(min_intensity, low), max(max_intensity, high)
        running_sums.add_slice(z, pixels, mask_slice, at_edge=z in (0, depth - 1))
    nuclei = running_sums.properties()
    if len(nuclei) == 0:
        raise FileError(mask.path, f"{mask.path} contains no nucleus: all of it is 0.")
    if min_intensity == max_intensity:
        raise FileError(stack.path, f"{stack.path} shows nothing: every voxel is {min_intensity:g}.")
    return nuclei, (min_intensity, max_intensity)


class _RunningSums:
    """Sums over the voxels of each nucleus, from which its properties follow after the last slice."""

    def __init__(self, mask: Stack, step: VoxelSize) -> None:
        self._mask, self._pieces = mask, PieceFinder(mask.shape, step)
        self._column_of_id: dict[int, int] = {}
        self._sums = np.zeros((7, 1024))

    def add_slice(self, z: int, pixels: Slice, mask_slice: Slice, *, at_edge: bool) -> None:
        """Add a slice; `at_edge` says whether it is the first or last of the stack."""
        height, width = mask_slice.shape
        for top, band, band_ids in _iter_bands(pixels, mask_slice):
            foreground = np.flatnonzero(band_ids)
            unique_ids, inverse = np.unique(band_ids.ravel()[foreground], return_inverse=True)
            columns = self._columns(unique_ids)
            y, x = top + foreground // width, foreground % width
            edge = (y == 0) | (y == height - 1) | (x == 0) | (x == width - 1)
            count = np.bincount(inverse, minlength=len(unique_ids))
            self._sums[_COUNT, columns] += count
            self._sums[_Z, columns] += count * z
            self._sums[_EDGE_Z, columns] += at_edge
            for row, weights in ((_Y, y), (_X, x), (_SUM, band.ravel()[foreground]), (_EDGE_YX, edge)):
                self._sums[row, columns] += np.bincount(inverse, weights=weights, minlength=len(unique_ids))
            self._pieces.add_voxels(columns[inverse], z, y, x)

    def _columns(self, unique_ids: Slice) -> NDArray[np.int64]:
        """Return the column of each nucleus, adding columns for new ones."""
        if len(unique_ids) and not 0 <= unique_ids[0] <= unique_ids[-1] < 1 << 53:
            bad_id = unique_ids[0] if unique_ids[0] < 0 else unique_ids[-1]
            raise FileError(
                self._mask.path, f"{self._mask.path} has the value {bad_id}; a mask's ids are positive integers."
            )
        columns = [self._column_of_id.setdefault(number, len(self._column_of_id)) for number in unique_ids.tolist()]
        while len(self._column_of_id) > self._sums.shape[1]:
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)], axis=1)
        return np.array(columns, dtype=np.int64)

    def properties(self) -> NucleusProperties:
        """Return the nuclei in ascending order of their ids."""
        ids = np.fromiter(self._column_of_id, dtype=np.int64, count=len(self._column_of_id))
        order = np.argsort(ids)
        sums = self._sums[:, : len(ids)]
        far = self._pieces.far_sums(len(ids))
        centroids = ((sums[[_Z, _Y, _X]] - far[1:]) / (sums[_COUNT] - far[0])).T
        return NucleusProperties(
            ids[order],
            sums[_COUNT, order].astype(np.int64),
            centroids[order],
            (sums[_SUM] / sums[_COUNT])[order],
            (sums[[_EDGE_Z, _EDGE_YX]] > 0).T[order],
            far[0, order].astype(np.int64),
        )


def _iter_bands(pixels: Slice, mask_slice: Slice) -> Iterator[tuple[int, Slice, Slice]]:
    """Divide two slices into bands of whole rows: the first row, and the band of each slice."""
    step = max(1, BLOCK_PIXELS // pixels.shape[1])
    for top in range(0, len(pixels), step):
        yield top, pixels[top : top + step], mask_slice[top : top + step]
