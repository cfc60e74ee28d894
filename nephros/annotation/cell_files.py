"""The cells of a project on disk: cells.npy, memory-mapped, and cells.csv, which says where each comes from."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.project_file import ProjectInfo, read_project_file, write_project_file
from nephros.data.input_files import read_npy_header
from nephros.escaping import escape_for_csv, unescape_from_csv
from nephros.files import atomic_write
from nephros.microscopy.voxel_size import VoxelSize
from nephros.reading import MAX_CSV_BYTES, MalformedContent, file_errors, read_text

IMAGES_FILE, TABLE_FILE = "cells.npy", "cells.csv"
COLUMNS = ("cell", "file", "index", "split", "z", "y", "x", "volume_voxels", "z_um", "y_um", "x_um")
"""index: page of a file or row of an array, from 0; id in the mask for a nucleus of a stack. z, y, x: centroid in voxels;
z_um, y_um, x_um: in micrometers, where the voxel size is known. All of them are empty for cells that are not of a stack."""
_ADVICE = "restore it from a copy of the project"


@dataclass(frozen=True)
class CellTable:
    """Where each of n cells comes from."""

    files: tuple[str, ...]
    """Absolute path, path below the project folder, or name of an upload, of each cell."""
    indices: NDArray[np.int64]
    """(n,) page, row or id in the mask."""
    splits: tuple[str, ...]
    """train, val, test, or empty."""
    centroids: NDArray[np.float64]
    """(n, 3): z, y and x in voxels; NaN for cells that are not of a stack."""
    volumes: NDArray[np.int64]
    """(n,) voxels; 0 for cells that are not of a stack."""

    def __len__(self) -> int:
        return len(self.files)

    def select(self, rows: NDArray[np.int64]) -> CellTable:
        """Return some of the rows."""
        return CellTable(
            tuple(self.files[row] for row in rows.tolist()),
            self.indices[rows],
            tuple(self.splits[row] for row in rows.tolist()),
            self.centroids[rows],
            self.volumes[rows],
        )

    def extend(self, other: CellTable) -> CellTable:
        """Return both tables, one after the other."""
        return CellTable(
            self.files + other.files,
            np.concatenate([self.indices, other.indices]),
            self.splits + other.splits,
            np.concatenate([self.centroids, other.centroids]),
            np.concatenate([self.volumes, other.volumes]),
        )


def empty_table() -> CellTable:
    """Return a table of no cells."""
    return CellTable((), np.zeros(0, np.int64), (), np.zeros((0, 3)), np.zeros(0, np.int64))


def _open_images(root: Path, n_cells: int, cell_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the images of the first `n_cells` cells, memory-mapped; later ones are of an addition that was cut off.

    Raises:
        FileError: the file is missing, cut short, or has cells of another shape.
    """
    path = root / IMAGES_FILE
    if not n_cells:
        return np.zeros((0, *cell_shape), np.uint8)
    with file_errors(path, _ADVICE, name=f"The cells' images {path}"):
        with open(path, "rb") as file:
            header = read_npy_header(file, path)
            n_missing = header.shape[0] * int(np.prod(cell_shape)) - (path.stat().st_size - file.tell())
        if header.shape[1:] != cell_shape or header.dtype != np.uint8 or header.fortran_order:
            raise MalformedContent(
                f"it holds {header.dtype} {header.shape}, but the project's cells are uint8 {cell_shape}"
            )
        if header.shape[0] < n_cells or n_missing > 0:
            raise MalformedContent(f"it is cut short: the project has {n_cells:,} cells")
        images: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    return images[:n_cells]


def _write_images(root: Path, parts: Iterable[NDArray[np.uint8]], n_cells: int, cell_shape: tuple[int, ...]) -> None:
    """Write the images of all cells, all or nothing."""
    with atomic_write(root / IMAGES_FILE) as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (n_cells, *cell_shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part).data)


def _read_table(root: Path, n_cells: int) -> CellTable:
    """Read the first `n_cells` rows of the table; FileError where it is missing, cut short, or damaged."""
    path = root / TABLE_FILE
    if not n_cells:
        return empty_table()
    with file_errors(path, _ADVICE, name=f"The table of cells {path}"):
        header, *rows = csv.reader(io.StringIO(read_text(path, MAX_CSV_BYTES), newline=""))
        if tuple(header[: len(COLUMNS)]) != COLUMNS or len(rows) < n_cells:
            raise MalformedContent(f"it has {len(rows):,} rows, but the project has {n_cells:,} cells")
        rows = rows[:n_cells]
        if [row[0] for row in rows] != [str(cell) for cell in range(n_cells)]:
            raise MalformedContent("its rows are not those of cells 0, 1, 2 and so on")
        return CellTable(
            tuple(unescape_from_csv(row[1]) for row in rows),
            np.array([int(row[2]) for row in rows], np.int64),
            tuple(row[3] for row in rows),
            np.array([[float(value or "nan") for value in row[4:7]] for row in rows]),
            np.array([int(row[7] or 0) for row in rows], np.int64),
        )


def _write_table(root: Path, table: CellTable, voxel_sizes: dict[str, VoxelSize | None]) -> None:
    """Write the table of all cells, all or nothing; `voxel_sizes` are by the file of a stack."""
    with atomic_write(root / TABLE_FILE, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for cell, (name, index, split) in enumerate(
            zip(table.files, table.indices.tolist(), table.splits, strict=True)
        ):
            centroid = table.centroids[cell].tolist()
            voxels, micrometers = position_texts(centroid, voxel_sizes.get(name))
            volume = int(table.volumes[cell]) or ""
            writer.writerow([cell, escape_for_csv(name), index, split, *voxels, volume, *micrometers])


def position_texts(centroid: list[float], voxel_size: VoxelSize | None) -> tuple[list[str], list[str]]:
    """Return z, y and x of a centroid as text, in voxels and in micrometers; empty where they are unknown."""
    if np.isnan(centroid[0]):
        return [""] * 3, [""] * 3
    voxels = [f"{position:.2f}" for position in centroid]
    if voxel_size is None:
        return voxels, [""] * 3
    return voxels, [f"{position * side:.3f}" for position, side in zip(centroid, voxel_size, strict=True)]


@dataclass(frozen=True)
class Cells:
    """The cells of a project at one moment."""

    info: ProjectInfo
    images: NDArray[np.uint8]
    """(n, h, w) or (n, h, w, 3), memory-mapped."""
    table: CellTable


def load_cells(root: Path) -> Cells:
    """Read the files of a project folder; FileError where one is missing, damaged, or of a newer version of nephros."""
    info = read_project_file(root)
    return Cells(info, _open_images(root, info.n_cells, info.cell_shape), _read_table(root, info.n_cells))


def save_cells(root: Path, info: ProjectInfo, parts: Iterable[NDArray[np.uint8]], table: CellTable) -> None:
    """Write images and table, which may have more cells than project.json says, and that last: it completes them."""
    _write_images(root, parts, info.n_cells, info.cell_shape)
    _write_table(root, table, {stack.path: stack.voxel_size for stack in info.stacks})
    write_project_file(root, info)
