"""A rough mask for a stack that has none: one threshold, then a watershed of the distance to the nuclei's edge.

Memory stays bounded: the channel is copied to a temporary file beside the result, and worked on tile by tile with a
margin around each. A nucleus belongs to the tile that its middle lies in.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import UserError
from nephros.microscopy.crops import BINS, bins_of
from nephros.microscopy.measurements import BLOCK
from nephros.microscopy.nuclei import Progress
from nephros.microscopy.reader import Slice, Stack, needs_stacks
from nephros.microscopy.voxel_size import Voxels

HOW = "threshold (Otsu's, one for the whole stack) and watershed of the distance to the edge, both scikit-image's"

TILE = (48, 256, 256)
"""Voxels of a tile without its margin."""
MARGIN = 8.0
"""Micrometres around a tile, more than a nucleus's radius."""
SMOOTH = 0.6
"""Micrometres, the standard deviation of the blur before the threshold."""
APART = 2.5
"""Micrometres: of two middles nearer than this one is dropped."""
SMALLEST, LARGEST = 15.0, 4000.0
"""Cubic micrometres; a nucleus 7 micrometres across has 180."""
FINEST = 1.0
"""Micrometres: smaller pixels are averaged in whole blocks to about this first. Middles stay within 0.2 of those at 0.5."""


def mark(
    stack: Stack, target: Path, voxel_size: Voxels, *, progress: Progress = lambda items, what, total: items
) -> int:
    """Write a mask of `stack` to `target`, a TIFF file of int32 or uint16 pages, and return how many nuclei it has.

    Raises:
        UserError: nothing in the stack stands out from its background.
    """
    factor = max(1, int(FINEST / min(voxel_size[1:]) + 0.5))
    size = (voxel_size[0], voxel_size[1] * factor, voxel_size[2] * factor)
    shape = (stack.shape[0], -(-stack.shape[1] // factor), -(-stack.shape[2] // factor))
    with (
        needs_stacks(),
        tempfile.TemporaryFile(dir=target.parent) as pixels_file,
        tempfile.TemporaryFile(dir=target.parent) as marks_file,
    ):
        pixels = _Volume(pixels_file, shape, np.dtype(np.float32 if factor > 1 else stack.dtype))
        bounds = _copy(progress(stack.slices(), "Reading the stack", shape[0]), pixels, factor)
        if not np.isfinite(bounds).all():
            raise UserError(f"{stack.path} has pixels that are not numbers (NaN or infinite); mend them.")
        if bounds[0] == bounds[1]:
            raise UserError(f"{stack.path} shows nothing: every pixel is {bounds[0]:g}.")
        threshold = _threshold(pixels, bounds)
        marks = _Volume(marks_file, shape, np.dtype(np.int32))
        tiles = list(_tiles(shape))
        n = 0
        for core in progress(tiles, "Marking nuclei", len(tiles)):
            n = _mark_tile(pixels, marks, core, size, threshold, n)
        if n == 0:
            raise UserError(f"{stack.path}: no nucleus stands out from the background; give a mask with --labels.")
        _write(marks, target, stack.shape, factor, np.dtype(np.uint16 if n < 1 << 16 else np.int32), progress)
    return n


@dataclass
class _Volume:
    """A raw volume in a temporary file, read and written in boxes; not memory-mapped, as mapped pages count as memory."""

    file: IO[bytes]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    def __post_init__(self) -> None:
        self.file.truncate(int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize)

    def read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        """Return a copy of a box."""
        box = np.empty((z.stop - z.start, y.stop - y.start, x.stop - x.start), self.dtype)
        for k in range(len(box)):
            self._seek(z.start + k, y.start)
            rows = np.fromfile(self.file, self.dtype, (y.stop - y.start) * self.shape[2])
            box[k] = rows.reshape(-1, self.shape[2])[:, x]
        return box

    def write(self, z: slice, y: slice, x: slice, box: NDArray[Any]) -> None:
        """Put a box back: whole rows are read, changed and written."""
        for k in range(len(box)):
            here = slice(z.start + k, z.start + k + 1)
            rows = self.read(here, y, slice(0, self.shape[2]))[0]
            rows[:, x] = box[k]
            self._seek(here.start, y.start)
            self.file.write(rows.tobytes())
            self.file.flush()

    def append(self, values: NDArray[Any]) -> None:
        """Write the next slice."""
        self.file.write(np.ascontiguousarray(values, self.dtype).tobytes())
        self.file.flush()

    def slices(self) -> Iterator[NDArray[Any]]:
        """Read slice by slice."""
        for z in range(self.shape[0]):
            yield self.read(slice(z, z + 1), slice(0, self.shape[1]), slice(0, self.shape[2]))[0]

    def _seek(self, z: int, y: int) -> None:
        self.file.seek((z * self.shape[1] + y) * self.shape[2] * self.dtype.itemsize)


def _copy(slices: Iterable[Slice], volume: _Volume, factor: int) -> tuple[float, float]:
    """Copy the slices, averaged in blocks of factor x factor pixels; return the copy's least and greatest pixel."""
    low, high = np.inf, -np.inf
    for values in slices:
        if factor > 1:
            values = np.pad(values, [(0, -side % factor) for side in values.shape], mode="edge")
            blocks = values.reshape(values.shape[0] // factor, factor, values.shape[1] // factor, factor)
            values = blocks.mean(axis=(1, 3), dtype=np.float32)
        volume.append(values)
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, high


def _threshold(volume: _Volume, bounds: tuple[float, float]) -> float:
    """Return Otsu's threshold of all pixels, the brightest 1 in 1000 taken as no brighter than the rest."""
    from skimage.filters import threshold_otsu

    counts = np.zeros(BINS, dtype=np.int64)
    for values in volume.slices():
        for part in np.array_split(values.ravel(), max(1, values.size // BLOCK)):
            counts += np.bincount(bins_of(part, *bounds), minlength=BINS)
    top = max(1, int(np.searchsorted(np.cumsum(counts), 0.999 * counts.sum())))
    coarse, edges = np.histogram(np.minimum(np.arange(BINS), top), bins=512, range=(0, top), weights=counts)
    found = float(threshold_otsu(hist=(coarse, (edges[1:] + edges[:-1]) / 2)))
    return bounds[0] + found / (BINS - 1) * (bounds[1] - bounds[0])


def _tiles(shape: tuple[int, int, int]) -> Iterator[tuple[slice, slice, slice]]:
    for z in range(0, shape[0], TILE[0]):
        for y in range(0, shape[1], TILE[1]):
            for x in range(0, shape[2], TILE[2]):
                yield tuple(  # type: ignore[misc]
                    slice(start, min(start + side, end))
                    for start, side, end in zip((z, y, x), TILE, shape, strict=True)
                )


def _mark_tile(
    pixels: _Volume, marks: _Volume, core: tuple[slice, slice, slice], size: Voxels, threshold: float, n: int
) -> int:
    """Mark the nuclei whose middle lies in `core`, numbered from n + 1; return the last number given."""
    margins = [int(np.ceil(MARGIN / side)) for side in size]
    z, y, x = (
        slice(max(0, part.start - margin), min(end, part.stop + margin))
        for part, margin, end in zip(core, margins, pixels.shape, strict=True)
    )
    found, middles = _watershed(pixels.read(z, y, x), size, threshold)
    start = np.array([z.start, y.start, x.start])
    inside = np.array(
        [all(p.start <= c < p.stop for p, c in zip(core, middle + start, strict=True)) for middle in middles], np.bool_
    )
    if not inside.any():
        return n
    numbers = np.zeros(len(middles) + 1, dtype=np.int32)
    numbers[1:][inside] = n + 1 + np.arange(int(inside.sum()))
    box = marks.read(z, y, x)
    new = numbers[found]
    box[(new > 0) & (box == 0)] = new[(new > 0) & (box == 0)]
    marks.write(z, y, x, box)
    return n + int(inside.sum())


def _watershed(values: NDArray[Any], size: Voxels, threshold: float) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the pieces of a tile, numbered from 1, and each one's middle, (n, 3) voxels."""
    from scipy import ndimage
    from skimage.segmentation import watershed

    smooth = ndimage.gaussian_filter(values.astype(np.float32), [SMOOTH / side for side in size], truncate=3)
    bright = smooth > threshold
    if not bright.any():
        return np.zeros(values.shape, np.int32), np.zeros((0, 3))
    # One voxel of background around the tile would read as an edge: the distance is to the background inside only.
    distance = ndimage.distance_transform_edt(bright, sampling=size).astype(np.float32)
    distance = ndimage.gaussian_filter(distance, [SMOOTH / side for side in size], truncate=3)
    window = [2 * max(1, round(APART / side)) + 1 for side in size]
    peaks = (distance == ndimage.maximum_filter(distance, window)) & bright
    seeds, _ = ndimage.label(peaks, np.ones((3, 3, 3)))
    pieces: NDArray[np.int32] = watershed(-distance, seeds, mask=bright).astype(np.int32)
    volumes = np.bincount(pieces.ravel()) * float(np.prod(size))
    keep = (volumes >= SMALLEST) & (volumes <= LARGEST)
    keep[0] = False
    numbers = np.zeros(len(keep), dtype=np.int32)
    numbers[keep] = 1 + np.arange(int(keep.sum()))
    pieces = numbers[pieces]
    middles = ndimage.center_of_mass(np.ones(pieces.shape, np.uint8), pieces, np.arange(1, int(keep.sum()) + 1))
    return pieces, np.array(middles, dtype=np.float64).reshape(-1, 3)


def _write(
    marks: _Volume, target: Path, shape: tuple[int, int, int], factor: int, dtype: np.dtype[Any], progress: Progress
) -> None:
    """Write the mask at the stack's own size, a compressed page a slice."""
    import tifffile

    with tifffile.TiffWriter(target, bigtiff=True) as writer:
        for values in progress(marks.slices(), "Writing the mask", shape[0]):
            page = values.astype(dtype)
            if factor > 1:
                page = page.repeat(factor, axis=0).repeat(factor, axis=1)[: shape[1], : shape[2]]
            writer.write(page, compression="zlib", photometric="minisblack", contiguous=False, metadata=None)
