"""The second pass over a stack: a 32x32x7 crop per nucleus at the training voxel size, projected while it streams by.

The crops themselves are kept where a network takes volumes.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nephros.array_types import Float32Array
from nephros.data.images.tiff_description import VOLUME_SHAPE
from nephros.microscopy.measurements import BLOCK_PIXELS, NucleusProperties
from nephros.microscopy.stack import Slice
from nephros.microscopy.voxel_size import VoxelSize

CROP_SHAPE = VOLUME_SHAPE
"""Slices, rows and columns of a crop (MedMNIST v2: 32x32x7 pixels from BBBC051)."""
N_BINS = 1 << 16
"""Bins of intensity histograms."""


@dataclass(frozen=True)
class CropFile:
    """Projections or volumes of n crops in a file, float32: a stack of 2 GB may have 200,000 nuclei, which are 0.9 or 5.7 GB."""

    path: Path
    n: int
    shape: tuple[int, ...] = CROP_SHAPE[1:]
    """Of each: (32, 32), or (7, 32, 32) for volumes."""

    def iter_batches(self, selected: NDArray[np.bool_], size: int = 4096) -> Iterator[Float32Array]:
        """Yield those for which `selected`, (n,) bool, is true, in batches of up to `size`, (b, 32, 32) or (b, 7, 32, 32)."""
        with self.path.open("rb") as file:
            for start in range(0, self.n, size):
                selected_rows = selected[start : start + size]
                data = np.fromfile(file, np.float32, len(selected_rows) * math.prod(self.shape))
                if selected_rows.any():
                    yield data.reshape(-1, *self.shape)[selected_rows]


@dataclass(frozen=True)
class NucleusCrops:
    """The result of the second pass."""

    projections: CropFile
    """Maximum over the slices of each crop, in the stack's own units; the stack's lowest intensity outside of it."""
    padded: NDArray[np.bool_]
    """(n, 2): whether a crop extends beyond the stack along z, and along y or x."""
    histogram: NDArray[np.int64]
    """(N_BINS,) histogram of all voxels of the stack, from its lowest to its highest intensity."""
    volumes: CropFile | None = None
    """The crops themselves, in the same units; None where they are not kept."""


@dataclass(frozen=True)
class FilterTaps:
    """The weights with which the stack voxels along one axis, from `start` to `stop`, contribute to the voxels of a crop."""

    start: int
    stop: int
    weights: Float32Array
    """(crop voxels, stop - start)."""
    padded: bool
    """Whether the crop extends beyond the stack."""


def filter_taps(center: float, length: int, step: float, size: int) -> FilterTaps:
    """Return the weights that resample one axis of a stack to the voxels of a crop.

    The weights are triangles as wide as the larger of the two voxels: linear interpolation where the stack is coarser than the
    training data, and an antialiasing average where it is finer. Voxels beyond the stack keep their weight but contribute
    nothing, so that they count as black. At step 1 the crop is moved to whole voxels, and its pixels are the stack's own.

    Args:
        center: center of the crop, in stack voxels.
        length: length of the axis, in stack voxels.
        step: stack voxels per crop voxel.
        size: length of the crop, in crop voxels.
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
"""Resampled crops are placed at multiples of 1 / _SUBVOXEL_STEPS voxel, so that few different weights are needed."""


@functools.lru_cache(maxsize=4 * _SUBVOXEL_STEPS)
def _triangle_weights(offset: int, step: float, size: int) -> tuple[int, Float32Array]:
    """Return the first voxel and the weights of a crop that begins `offset` / _SUBVOXEL_STEPS of a voxel after voxel 0."""
    positions = offset / _SUBVOXEL_STEPS + np.arange(size) * step
    support = max(1.0, step)
    low, high = int(np.floor(positions[0] - support)) + 1, int(np.ceil(positions[-1] + support))
    weights = np.maximum(1 - np.abs(np.arange(low, high)[None] - positions[:, None]) / support, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return low, weights.astype(np.float32)


@dataclass
class _ActiveCrop:
    """The crop of a nucleus whose slices are streaming by."""

    row: int
    axes: tuple[FilterTaps, FilterTaps, FilterTaps]
    projection: Float32Array = field(default_factory=lambda: np.zeros(CROP_SHAPE[1:], np.float32))
    partial_slices: dict[int, Float32Array] = field(default_factory=dict)
    """Slice of the crop -> its sum so far, (32, 32), while further slices of the stack contribute to it."""
    volume: Float32Array | None = None
    """(7, 32, 32), the finished slices; None where they are not kept."""


def extract_crops(
    nuclei: NucleusProperties,
    shape: tuple[int, int, int],
    step: VoxelSize,
    intensity_range: tuple[float, float],
    slices: Iterable[Slice],
    path: Path,
    volumes_path: Path | None = None,
) -> NucleusCrops:
    """Extract a crop around the centroid of every nucleus, reading the stack's slices once.

    Neighbors within the crop stay, as in the training data. Memory: about 5 KiB per nucleus whose slices are streaming by.

    Args:
        nuclei: the nuclei to crop.
        shape: shape of the stack.
        step: stack voxels per training voxel, along z, y and x.
        intensity_range: lowest and highest intensity of the stack.
        slices: the slices of the stack, from first to last.
        path: file that the projections are written to.
        volumes_path: file that the crops themselves are written to; None keeps none.
    """
    min_intensity, max_intensity = intensity_range
    histogram = np.zeros(N_BINS, dtype=np.int64)
    padded = np.zeros((len(nuclei), 2), np.bool_)
    starts = np.array([filter_taps(z, shape[0], step[0], CROP_SHAPE[0]).start for z in nuclei.centroids[:, 0]])
    pending = np.argsort(starts, kind="stable")[::-1].tolist()
    active: list[_ActiveCrop] = []
    with contextlib.ExitStack() as files:
        file = files.enter_context(path.open("wb"))
        volumes_file = None if volumes_path is None else files.enter_context(volumes_path.open("wb"))
        for z, pixels in enumerate(slices):
            _accumulate_histogram(pixels, min_intensity, max_intensity, histogram)
            while pending and starts[pending[-1]] <= z:
                row = pending.pop()
                along, down, across = (
                    filter_taps(nuclei.centroids[row, k], shape[k], step[k], CROP_SHAPE[k]) for k in range(3)
                )
                padded[row] = along.padded, down.padded or across.padded
                volume = None if volumes_file is None else np.zeros(CROP_SHAPE, np.float32)
                active.append(_ActiveCrop(row, (along, down, across), volume=volume))
            for crop in active:
                _accumulate_slice(crop, z, pixels, min_intensity)
                if crop.axes[0].stop == z + 1:
                    _write_row(file, crop.row, crop.projection + np.float32(min_intensity))
                    if volumes_file is not None and crop.volume is not None:
                        _write_row(volumes_file, crop.row, crop.volume + np.float32(min_intensity))
            active = [crop for crop in active if crop.axes[0].stop > z + 1]
    volumes = None if volumes_path is None else CropFile(volumes_path, len(nuclei), CROP_SHAPE)
    return NucleusCrops(CropFile(path, len(nuclei)), padded, histogram, volumes)


def _write_row(file: BinaryIO, row: int, values: Float32Array) -> None:
    file.seek(row * values.nbytes)
    file.write(values.tobytes())


def _accumulate_slice(crop: _ActiveCrop, z: int, pixels: Slice, min_intensity: float) -> None:
    """Add a slice of the stack to a crop, and finished slices of the crop to its projection."""
    along, down, across = crop.axes
    patch = pixels[down.start : down.stop, across.start : across.stop].astype(np.float32) - np.float32(min_intensity)
    plane = down.weights @ patch @ across.weights.T
    for k in np.flatnonzero(along.weights[:, z - along.start]).tolist():
        contribution = along.weights[k, z - along.start] * plane
        if k in crop.partial_slices:
            contribution += crop.partial_slices.pop(k)
        if z + 1 < along.stop and along.weights[k, z + 1 - along.start] > 0:
            crop.partial_slices[k] = contribution
        else:
            np.maximum(crop.projection, contribution, out=crop.projection)
            if crop.volume is not None:
                crop.volume[k] = contribution


def _accumulate_histogram(
    pixels: Slice, min_intensity: float, max_intensity: float, histogram: NDArray[np.int64]
) -> None:
    """Add the pixels of a slice to the histogram."""
    rows = max(1, BLOCK_PIXELS // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        histogram += np.bincount(
            bin_indices(pixels[top : top + rows], min_intensity, max_intensity).ravel(), minlength=N_BINS
        )


def bin_indices(values: NDArray[np.generic], min_intensity: float, max_intensity: float) -> NDArray[np.int64]:
    """Return the bin of each value in a histogram of N_BINS bins from `min_intensity` to `max_intensity`."""
    scaled = (values.astype(np.float64) - min_intensity) * ((N_BINS - 1) / (max_intensity - min_intensity))
    bins: NDArray[np.int64] = np.clip(np.rint(scaled), 0, N_BINS - 1).astype(np.int64)
    return bins
