"""The second reading of a stack: a 32x32x7 crop a nucleus at the training voxel size, projected as it streams by."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.measurements import BLOCK_PIXELS, NucleusProperties
from nephros.microscopy.reader import Slice
from nephros.microscopy.voxel_size import VoxelSize

CROP_SHAPE = (7, 32, 32)
"""Slices, rows and columns of a training crop (MedMNIST v2: BBBC051's 32x32x7 pixels)."""
N_BINS = 1 << 16
_CROP_PIXELS = CROP_SHAPE[1] * CROP_SHAPE[2]

Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class ProjectionFile:
    """(n, 32, 32) float32 in a file: a stack of 2 GB may have 200,000 nuclei, 0.9 GB of these."""

    path: Path
    n: int

    def iter_batches(self, selected: NDArray[np.bool_], size: int = 4096) -> Iterator[Float32Array]:
        """Read those where `selected`, (n,) bool, is true, in order: up to `size` at a time, (b, 32, 32)."""
        with self.path.open("rb") as file:
            for start in range(0, self.n, size):
                selected_rows = selected[start : start + size]
                data = np.fromfile(file, np.float32, len(selected_rows) * _CROP_PIXELS)
                if selected_rows.any():
                    yield data.reshape(-1, *CROP_SHAPE[1:])[selected_rows]


@dataclass(frozen=True)
class NucleusCrops:
    """What the second reading finds."""

    projections: ProjectionFile
    """The maximum over each crop's slices, in the stack's own units; outside the stack, its least pixel."""
    padded: NDArray[np.bool_]
    """(n, 2): whether a crop reaches beyond the stack along z, and along y or x."""
    histogram: NDArray[np.int64]
    """(BINS,) counts of all pixels of the stack, even steps from its least to its greatest."""


@dataclass(frozen=True)
class FilterTaps:
    """Which of an axis's voxels the training voxels of a crop are made of, and with what weights."""

    start: int
    stop: int
    weights: Float32Array
    """(training voxels, stop - start)."""
    padded: bool
    """Whether the crop reaches beyond the axis."""


def filter_taps(center: float, length: int, step: float, size: int) -> FilterTaps:
    """Return how `size` training voxels around `center` are made from an axis of `length` voxels, `step` of them each.

    Weights are triangles, as wide as the larger of the two voxels: linear interpolation where the stack is coarser than
    the training data, and an antialiasing average where it is finer. Voxels beyond the stack weigh but are absent, so that
    they count as black. At step 1 the crop is moved to whole voxels: its pixels are the stack's own.
    """
    half = (size - 1) / 2 * step
    first = round(center - half) if step == 1 else round((center - half) * _SUBVOXEL_STEPS) / _SUBVOXEL_STEPS
    first_voxel = int(np.floor(first))
    low, weights = _triangle_weights(round((first - first_voxel) * _SUBVOXEL_STEPS), step, size)
    low += first_voxel
    start, stop = max(low, 0), min(low + weights.shape[1], length)
    padded = first < -0.5 or first + 2 * half > length - 0.5
    return FilterTaps(start, max(stop, start), weights[:, start - low : max(stop, start) - low], padded)


_SUBVOXEL_STEPS = 32
"""Where voxels are resampled, a crop's place is rounded to this part of a voxel, so that few weights are needed."""


@functools.lru_cache(maxsize=4 * _SUBVOXEL_STEPS)
def _triangle_weights(offset: int, step: float, size: int) -> tuple[int, Float32Array]:
    """Return the first voxel and the weights of a crop that begins at `offset` / _PARTS of a voxel."""
    positions = offset / _SUBVOXEL_STEPS + np.arange(size) * step
    support = max(1.0, step)
    low, high = int(np.floor(positions[0] - support)) + 1, int(np.ceil(positions[-1] + support))
    weights = np.maximum(1 - np.abs(np.arange(low, high)[None] - positions[:, None]) / support, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return low, weights.astype(np.float32)


@dataclass
class _ActiveCrop:
    """A nucleus whose slices are streaming by."""

    row: int
    axes: tuple[FilterTaps, FilterTaps, FilterTaps]
    projection: Float32Array = field(default_factory=lambda: np.zeros(CROP_SHAPE[1:], np.float32))
    partial_slices: dict[int, Float32Array] = field(default_factory=dict)
    """Slice of the crop -> the sum so far, (32, 32), while more of the stack's slices go into it."""


def extract_crops(
    nuclei: NucleusProperties,
    shape: tuple[int, int, int],
    step: VoxelSize,
    intensity_range: tuple[float, float],
    slices: Iterable[Slice],
    path: Path,
) -> NucleusCrops:
    """Cut every nucleus's crop, centred on its centroid, out of a stack of `shape` whose slices are read once.

    Neighbours within the crop stay, as in the training data. Memory: about 5 KiB a nucleus whose slices are under way.

    Args:
        step: how many of the stack's voxels one training voxel spans, along z, y and x.
        bounds: least and greatest pixel of the stack.
        path: the file that the projections are written to.
    """
    min_intensity, max_intensity = intensity_range
    histogram = np.zeros(N_BINS, dtype=np.int64)
    padded = np.zeros((len(nuclei), 2), np.bool_)
    starts = np.array([filter_taps(z, shape[0], step[0], CROP_SHAPE[0]).start for z in nuclei.centroids[:, 0]])
    pending = np.argsort(starts, kind="stable")[::-1].tolist()
    active: list[_ActiveCrop] = []
    with path.open("wb") as file:
        for z, pixels in enumerate(slices):
            _accumulate_histogram(pixels, min_intensity, max_intensity, histogram)
            while pending and starts[pending[-1]] <= z:
                row = pending.pop()
                along, down, across = (
                    filter_taps(nuclei.centroids[row, k], shape[k], step[k], CROP_SHAPE[k]) for k in range(3)
                )
                padded[row] = along.padded, down.padded or across.padded
                active.append(_ActiveCrop(row, (along, down, across)))
            for nucleus in active:
                _accumulate_slice(nucleus, z, pixels, min_intensity)
                if nucleus.axes[0].stop == z + 1:
                    file.seek(nucleus.row * 4 * _CROP_PIXELS)
                    file.write((nucleus.projection + np.float32(min_intensity)).tobytes())
            active = [nucleus for nucleus in active if nucleus.axes[0].stop > z + 1]
    return NucleusCrops(ProjectionFile(path, len(nuclei)), padded, histogram)


def _accumulate_slice(nucleus: _ActiveCrop, z: int, pixels: Slice, min_intensity: float) -> None:
    """Take one of the stack's slices into a nucleus's crop, and finished slices of the crop into its maximum."""
    along, down, across = nucleus.axes
    patch = pixels[down.start : down.stop, across.start : across.stop].astype(np.float32) - np.float32(min_intensity)
    plane = down.weights @ patch @ across.weights.T
    for k in np.flatnonzero(along.weights[:, z - along.start]).tolist():
        contribution = along.weights[k, z - along.start] * plane
        if k in nucleus.partial_slices:
            contribution += nucleus.partial_slices.pop(k)
        if z + 1 < along.stop and along.weights[k, z + 1 - along.start] > 0:
            nucleus.partial_slices[k] = contribution
        else:
            np.maximum(nucleus.projection, contribution, out=nucleus.projection)


def _accumulate_histogram(
    pixels: Slice, min_intensity: float, max_intensity: float, histogram: NDArray[np.int64]
) -> None:
    """Add one slice's pixels to the histogram."""
    rows = max(1, BLOCK_PIXELS // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        histogram += np.bincount(
            bin_indices(pixels[top : top + rows], min_intensity, max_intensity).ravel(), minlength=N_BINS
        )


def bin_indices(values: NDArray[np.generic], min_intensity: float, max_intensity: float) -> NDArray[np.int64]:
    """Return each pixel's bin in a histogram of BINS even steps from `min_intensity` to `max_intensity`."""
    scaled = (values.astype(np.float64) - min_intensity) * ((N_BINS - 1) / (max_intensity - min_intensity))
    bins: NDArray[np.int64] = np.clip(np.rint(scaled), 0, N_BINS - 1).astype(np.int64)
    return bins
