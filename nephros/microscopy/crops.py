"""The second reading of a stack: a 32x32x7 crop a nucleus at the training voxel size, projected as it streams by."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.measurements import BLOCK, Nuclei
from nephros.microscopy.reader import Slice
from nephros.microscopy.voxel_size import Voxels

WINDOW = (7, 32, 32)
"""Slices, rows and columns of a training crop (MedMNIST v2: BBBC051's 32x32x7 pixels)."""
BINS = 1 << 16
_PIXELS = WINDOW[1] * WINDOW[2]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Projections:
    """(n, 32, 32) float32 in a file: a stack of 2 GB may have 200,000 nuclei, 0.9 GB of these."""

    path: Path
    n: int

    def batches(self, wanted: NDArray[np.bool_], size: int = 4096) -> Iterator[Floats]:
        """Read those where `wanted`, (n,) bool, is true, in order: up to `size` at a time, (b, 32, 32)."""
        with self.path.open("rb") as file:
            for start in range(0, self.n, size):
                here = wanted[start : start + size]
                data = np.fromfile(file, np.float32, len(here) * _PIXELS)
                if here.any():
                    yield data.reshape(-1, *WINDOW[1:])[here]


@dataclass(frozen=True)
class Cut:
    """What the second reading finds."""

    projections: Projections
    """The maximum over each crop's slices, in the stack's own units; outside the stack, its least pixel."""
    padded: NDArray[np.bool_]
    """(n, 2): whether a crop reaches beyond the stack along z, and along y or x."""
    histogram: NDArray[np.int64]
    """(BINS,) counts of all pixels of the stack, even steps from its least to its greatest."""


@dataclass(frozen=True)
class Taps:
    """Which of an axis's voxels the training voxels of a crop are made of, and with what weights."""

    start: int
    stop: int
    weights: Floats
    """(training voxels, stop - start)."""
    padded: bool
    """Whether the crop reaches beyond the axis."""


def taps(centre: float, length: int, step: float, size: int) -> Taps:
    """Return how `size` training voxels around `centre` are made from an axis of `length` voxels, `step` of them each.

    Weights are triangles, as wide as the larger of the two voxels: linear interpolation where the stack is coarser than
    the training data, and an antialiasing average where it is finer. Voxels beyond the stack weigh but are absent, so that
    they count as black. At step 1 the crop is moved to whole voxels: its pixels are the stack's own.
    """
    half = (size - 1) / 2 * step
    first = round(centre - half) if step == 1 else round((centre - half) * _PARTS) / _PARTS
    whole = int(np.floor(first))
    low, weights = _weights(round((first - whole) * _PARTS), step, size)
    low += whole
    start, stop = max(low, 0), min(low + weights.shape[1], length)
    padded = first < -0.5 or first + 2 * half > length - 0.5
    return Taps(start, max(stop, start), weights[:, start - low : max(stop, start) - low], padded)


_PARTS = 32
"""Where voxels are resampled, a crop's place is rounded to this part of a voxel, so that few weights are needed."""


@functools.lru_cache(maxsize=4 * _PARTS)
def _weights(part: int, step: float, size: int) -> tuple[int, Floats]:
    """Return the first voxel and the weights of a crop that begins at `part` / _PARTS of a voxel."""
    positions = part / _PARTS + np.arange(size) * step
    reach = max(1.0, step)
    low, high = int(np.floor(positions[0] - reach)) + 1, int(np.ceil(positions[-1] + reach))
    weights = np.maximum(1 - np.abs(np.arange(low, high)[None] - positions[:, None]) / reach, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return low, weights.astype(np.float32)


@dataclass
class _Open:
    """A nucleus whose slices are streaming by."""

    row: int
    axes: tuple[Taps, Taps, Taps]
    projection: Floats = field(default_factory=lambda: np.zeros(WINDOW[1:], np.float32))
    parts: dict[int, Floats] = field(default_factory=dict)
    """Slice of the crop -> the sum so far, (32, 32), while more of the stack's slices go into it."""


def cut(
    nuclei: Nuclei,
    shape: tuple[int, int, int],
    step: Voxels,
    bounds: tuple[float, float],
    slices: Iterable[Slice],
    path: Path,
) -> Cut:
    """Cut every nucleus's crop, centred on its centroid, out of a stack of `shape` whose slices are read once.

    Neighbours within the crop stay, as in the training data. Memory: about 5 KiB a nucleus whose slices are under way.

    Args:
        step: how many of the stack's voxels one training voxel spans, along z, y and x.
        bounds: least and greatest pixel of the stack.
        path: the file that the projections are written to.
    """
    least, greatest = bounds
    histogram = np.zeros(BINS, dtype=np.int64)
    padded = np.zeros((len(nuclei), 2), np.bool_)
    starts = np.array([taps(z, shape[0], step[0], WINDOW[0]).start for z in nuclei.centroids[:, 0]])
    waiting = np.argsort(starts, kind="stable")[::-1].tolist()
    under_way: list[_Open] = []
    with path.open("wb") as file:
        for z, pixels in enumerate(slices):
            _count(pixels, least, greatest, histogram)
            while waiting and starts[waiting[-1]] <= z:
                row = waiting.pop()
                along, down, across = (taps(nuclei.centroids[row, k], shape[k], step[k], WINDOW[k]) for k in range(3))
                padded[row] = along.padded, down.padded or across.padded
                under_way.append(_Open(row, (along, down, across)))
            for nucleus in under_way:
                _add(nucleus, z, pixels, least)
                if nucleus.axes[0].stop == z + 1:
                    file.seek(nucleus.row * 4 * _PIXELS)
                    file.write((nucleus.projection + np.float32(least)).tobytes())
            under_way = [nucleus for nucleus in under_way if nucleus.axes[0].stop > z + 1]
    return Cut(Projections(path, len(nuclei)), padded, histogram)


def _add(nucleus: _Open, z: int, pixels: Slice, least: float) -> None:
    """Take one of the stack's slices into a nucleus's crop, and finished slices of the crop into its maximum."""
    along, down, across = nucleus.axes
    patch = pixels[down.start : down.stop, across.start : across.stop].astype(np.float32) - np.float32(least)
    plane = down.weights @ patch @ across.weights.T
    for k in np.flatnonzero(along.weights[:, z - along.start]).tolist():
        part = along.weights[k, z - along.start] * plane
        if k in nucleus.parts:
            part += nucleus.parts.pop(k)
        if z + 1 < along.stop and along.weights[k, z + 1 - along.start] > 0:
            nucleus.parts[k] = part
        else:
            np.maximum(nucleus.projection, part, out=nucleus.projection)


def _count(pixels: Slice, least: float, greatest: float, histogram: NDArray[np.int64]) -> None:
    """Add one slice's pixels to the histogram."""
    rows = max(1, BLOCK // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        histogram += np.bincount(bins_of(pixels[top : top + rows], least, greatest).ravel(), minlength=BINS)


def bins_of(values: NDArray[np.generic], least: float, greatest: float) -> NDArray[np.int64]:
    """Return each pixel's bin in a histogram of BINS even steps from `least` to `greatest`."""
    scaled = (values.astype(np.float64) - least) * ((BINS - 1) / (greatest - least))
    bins: NDArray[np.int64] = np.clip(np.rint(scaled), 0, BINS - 1).astype(np.int64)
    return bins
