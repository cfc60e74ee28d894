"""The second reading of a stack: a 32x32x7 crop a nucleus at the training voxel size, projected as it streams by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nephros.data.stack.measure import BLOCK, Nuclei
from nephros.data.stack.read import Slice
from nephros.data.stack.voxels import Voxels

WINDOW = (7, 32, 32)
"""Slices, rows and columns of a training crop (MedMNIST v2: BBBC051's 32x32x7 pixels)."""
BINS = 1 << 16

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Cut:
    """What the second reading finds."""

    projections: Floats
    """(n, 32, 32): the maximum over a crop's slices, in the stack's own units; outside the stack, its least pixel."""
    padded: NDArray[np.bool_]
    """(n, 2): whether a crop reaches beyond the stack along z, and along y or x."""
    histogram: NDArray[np.int64]
    """(BINS,) counts of all pixels of the stack, even steps from its least to its greatest."""


def taps(centre: float, length: int, step: float, size: int) -> tuple[int, int, Floats]:
    """Return which of an axis's voxels `size` training voxels around `centre` are made of, and with what weights.

    Weights (size, stop - start) are triangles, as wide as the larger of the two voxels: linear interpolation where the
    stack is coarser than the training data, and an antialiasing average where it is finer. Voxels beyond the stack
    weigh but are absent, so that they count as black. At step 1 the crop is moved to whole voxels: its pixels are the
    stack's own.
    """
    first = round(centre - (size - 1) / 2) if step == 1 else centre - (size - 1) / 2 * step
    positions = first + np.arange(size) * step
    reach = max(1.0, step)
    low, high = int(np.floor(positions[0] - reach)) + 1, int(np.ceil(positions[-1] + reach))
    voxels = np.arange(low, high)
    weights = np.maximum(1 - np.abs(voxels[None] - positions[:, None]) / reach, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    start, stop = max(low, 0), min(high, length)
    return start, max(stop, start), weights[:, start - low : max(stop, start) - low].astype(np.float32)


def reaches_out(centre: float, length: int, step: float, size: int) -> bool:
    """Return whether a crop of `size` training voxels around `centre` goes beyond an axis of `length` voxels."""
    half = (size - 1) / 2 * step
    first = round(centre - half) if step == 1 else centre - half
    return first < -0.5 or first + 2 * half > length - 0.5


@dataclass
class _Open:
    """A nucleus whose slices are streaming by."""

    row: int
    z: tuple[int, int, Floats]
    y: tuple[int, int, Floats]
    x: tuple[int, int, Floats]
    parts: dict[int, Floats] = field(default_factory=dict)
    """Slice of the crop -> the sum so far, (32, 32), while more of the stack's slices go into it."""


def cut(
    nuclei: Nuclei, shape: tuple[int, int, int], step: Voxels, bounds: tuple[float, float], slices: Iterable[Slice]
) -> Cut:
    """Cut every nucleus's crop, centred on its centroid, out of a stack of `shape` whose slices are read once.

    Neighbours within the crop stay, as in the training data. Memory: 4 KiB a nucleus, and about as much again while a
    nucleus's slices are read.

    Args:
        step: how many of the stack's voxels one training voxel spans, along z, y and x.
        bounds: least and greatest pixel of the stack.
    """
    least, greatest = bounds
    projections = np.zeros((len(nuclei), *WINDOW[1:]), dtype=np.float32)
    histogram = np.zeros(BINS, dtype=np.int64)
    spans = [taps(z, shape[0], step[0], WINDOW[0]) for z in nuclei.centroids[:, 0]]
    waiting = sorted(range(len(nuclei)), key=lambda row: spans[row][0], reverse=True)
    under_way: list[_Open] = []
    for z, pixels in enumerate(slices):
        _count(pixels, least, greatest, histogram)
        while waiting and spans[waiting[-1]][0] <= z:
            row = waiting.pop()
            y, x = (taps(nuclei.centroids[row, k], shape[k], step[k], WINDOW[k]) for k in (1, 2))
            under_way.append(_Open(row, spans[row], y, x))
        for nucleus in under_way:
            _add(nucleus, z, pixels, least, projections[nucleus.row])
        under_way = [nucleus for nucleus in under_way if nucleus.z[1] > z + 1]
    padded = np.array(
        [[reaches_out(c[k], shape[k], step[k], WINDOW[k]) for k in range(3)] for c in nuclei.centroids], dtype=np.bool_
    )
    projections += np.float32(least)
    return Cut(projections, np.stack([padded[:, 0], padded[:, 1] | padded[:, 2]], axis=1), histogram)


def _add(nucleus: _Open, z: int, pixels: Slice, least: float, projection: Floats) -> None:
    """Take one of the stack's slices into a nucleus's crop, and finished slices of the crop into its maximum."""
    (first, stop, weights), (top, bottom, rows), (left, right, columns) = nucleus.z, nucleus.y, nucleus.x
    patch = pixels[top:bottom, left:right].astype(np.float32) - np.float32(least)
    plane = rows @ patch @ columns.T
    for k in np.flatnonzero(weights[:, z - first]).tolist():
        part = weights[k, z - first] * plane
        if k in nucleus.parts:
            part += nucleus.parts.pop(k)
        if z + 1 < stop and weights[k, z + 1 - first] > 0:
            nucleus.parts[k] = part
        else:
            np.maximum(projection, part, out=projection)


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
