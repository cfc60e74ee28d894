"""A nucleus in its tissue: slices of the stack around it, its own pixels in them, and the nuclei beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.cell_files import CellTable
from nephros.annotation.project_file import StackSource
from nephros.annotation.stack_copies import INTENSITY_FILE, MASK_FILE, read_window
from nephros.microscopy.voxel_size import TRAINING_VOXEL_SIZE, VoxelSize

N_SLICES = 7
SIDE_UM = 50.0
"""Width and height of what is shown, in micrometers; about the same number of training voxels where the size is unknown."""
MAX_SIDE_PIXELS = 512


@dataclass(frozen=True)
class Neighbor:
    """Another cell whose centroid is in the slices."""

    cell: int
    z: float
    y: float
    x: float
    """Centroid in voxels of the stack."""


@dataclass(frozen=True)
class Tissue:
    """Slices of a stack around a nucleus."""

    slices: NDArray[np.uint8]
    """(k, h, w)."""
    outline: NDArray[np.bool_]
    """(k, h, w): the pixels of the nucleus."""
    z: tuple[int, ...]
    """Of each slice, in the stack, ascending."""
    center: int
    """Index of the slice of the nucleus's centroid."""
    top: int
    left: int
    """Row and column of the stack at which the slices begin."""
    neighbors: tuple[Neighbor, ...]
    """Cells whose centroids are in the slices, or between them, without the nucleus itself."""
    voxel_size: VoxelSize | None
    """Micrometers along z, y and x; None where it is unknown."""


def read_tissue(root: Path, source: StackSource, table: CellTable, cell: int) -> Tissue:
    """Return the surroundings of a nucleus of a stack.

    Raises:
        FileError: the copy of the stack, or of its mask, is missing or damaged.
    """
    centroid = table.centroids[cell]
    sides = np.array(source.voxel_size or TRAINING_VOXEL_SIZE)
    step = max(1, round(TRAINING_VOXEL_SIZE[0] / sides[0]))
    planes = _planes(round(centroid[0]), step, source.shape[0])
    windows = [_window(centroid[k], sides[k], source.shape[k]) for k in (1, 2)]
    (top, bottom), (left, right) = windows
    folder = root / source.folder
    mask = read_window(folder / MASK_FILE, planes, top, bottom, left, right)
    intensities = read_window(folder / INTENSITY_FILE, planes, top, bottom, left, right)
    center = int(np.argmin(np.abs(np.array(planes) - centroid[0])))
    outline = mask == table.indices[cell]
    neighbors = _neighbors(table, source, cell, (planes[0] - step / 2, planes[-1] + step / 2), windows)
    return Tissue(intensities.astype(np.uint8), outline, tuple(planes), center, top, left, neighbors, source.voxel_size)


def _planes(z: int, step: int, n_slices: int) -> list[int]:
    planes = [z + step * offset for offset in range(-(N_SLICES // 2), N_SLICES // 2 + 1)]
    return [plane for plane in planes if 0 <= plane < n_slices]


def _window(center: float, side: float, length: int) -> tuple[int, int]:
    """Return where the slices begin and end along an axis: near the stack's edge they are moved, not cut."""
    size = min(length, MAX_SIDE_PIXELS, max(8, round(SIDE_UM / side)))
    start = min(max(0, round(center - size / 2)), length - size)
    return start, start + size


def _neighbors(
    table: CellTable, source: StackSource, cell: int, z_range: tuple[float, float], windows: list[tuple[int, int]]
) -> tuple[Neighbor, ...]:
    ranges = np.array([z_range, *windows], np.float64)
    with np.errstate(invalid="ignore"):  # cells that are not of a stack have no centroid
        is_inside = ((table.centroids >= ranges[:, 0]) & (table.centroids < ranges[:, 1])).all(axis=1)
    return tuple(
        Neighbor(other, *table.centroids[other].tolist())
        for other in np.flatnonzero(is_inside).tolist()
        if other != cell and table.files[other] == source.path
    )
