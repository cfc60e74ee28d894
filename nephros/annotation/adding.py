"""From files that a user names to cells of a project: read, converted to the model's input, and without those it has already."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.cell_files import CellTable
from nephros.annotation.project_file import CellFile, ProjectInfo
from nephros.inference.reader import CellReader, CellSource
from nephros.microscopy.located import LocatedNuclei
from nephros.microscopy.nuclei import ProgressTracker
from nephros.microscopy.stack import StackOptions

MAX_ERRORS = 20
"""Sentences on files that can't be read which are kept; the rest is counted."""
AddProgress = Callable[[float | None, str], None]
"""Called with the share of the work that is done, None where it is unknown, and what is being done."""


@dataclass(frozen=True)
class AddedCells:
    """What became of the files that were to be added."""

    n_added: int
    n_present: int
    """Cells that the project had already: of the same file, position and pixels."""
    errors: tuple[str, ...]
    """One sentence for each file or image that can't be read, at most MAX_ERRORS."""
    notes: tuple[str, ...]
    """How images became cells, and what is odd about them; one sentence each."""


@dataclass(frozen=True)
class ReadCells:
    """Cells that were read from files."""

    images: NDArray[np.uint8]
    table: CellTable
    located: tuple[LocatedNuclei, ...]
    files: tuple[CellFile, ...]
    errors: tuple[str, ...]
    notes: tuple[str, ...]


def read_cells(
    paths: Sequence[Path], info: ProjectInfo, options: StackOptions, white_level: float | None, progress: AddProgress
) -> ReadCells:
    """Read the cells of files, folders and stacks, in the order of their names.

    Raises:
        NephrosError: an option can't be used. What can't be read is among the `errors` instead.
    """
    channel = options.channel if isinstance(options.channel, int) else None
    reader = CellReader(
        paths, info.image_shape, white_level, stack_options=options, conversion=info.conversion, channel=channel
    )
    reader.progress = _progress_tracker(progress)
    total = max(1, len(reader))
    parts, rows = [], []
    for batch_rows, images in reader.iter_batches():
        rows.append(batch_rows)
        parts.append(images)
        progress(min(1.0, reader.n_read / total), "Reading cells")
    order = np.argsort(np.concatenate(rows), kind="stable") if rows else np.zeros(0, np.int64)
    images = np.concatenate(parts)[order] if parts else np.zeros((0, *info.cell_shape), np.uint8)
    sources = [reader.sources[row] for row in (np.concatenate(rows)[order].tolist() if rows else [])]
    conversions = [f"{text} ({count:,} cells)" for text, count in reader.conversion_counts.items()]
    return ReadCells(
        images,
        _table(sources, reader.located),
        tuple(reader.located),
        tuple(file for path in paths if (file := _cell_file(path, sources)).n_cells),
        _first_errors(list(reader.errors.values())),
        tuple(dict.fromkeys([*reader.input_notes, *conversions])),
    )


def without_present(read: ReadCells, table: CellTable, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the rows of new cells that are not among those of a project, nor twice among the new ones."""
    names = set(read.table.files)
    present = {_key(table, row, images[row]) for row, name in enumerate(table.files) if name in names}
    rows = []
    for row in range(len(read.table)):
        key = _key(read.table, row, read.images[row])
        if key not in present:
            present.add(key)
            rows.append(row)
    return np.array(rows, np.int64)


def select(read: ReadCells, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], CellTable]:
    """Return some of the cells."""
    table = read.table
    chosen = rows.tolist()
    return read.images[rows], CellTable(
        tuple(table.files[row] for row in chosen),
        table.indices[rows],
        tuple(table.splits[row] for row in chosen),
        table.centroids[rows],
    )


def file_state(path: Path) -> tuple[int, int]:
    """Return the size of a file and when it was last changed, in nanoseconds; -1 for a folder."""
    stat = path.stat()
    return (-1, -1) if path.is_dir() else (stat.st_size, stat.st_mtime_ns)


def _table(sources: Sequence[CellSource], located: Sequence[LocatedNuclei]) -> CellTable:
    centroid_of = {
        (nuclei.display_path, nucleus_id): centroid
        for nuclei in located
        for nucleus_id, centroid in zip(nuclei.nuclei.ids.tolist(), nuclei.nuclei.centroids, strict=True)
    }
    unknown = np.full(3, np.nan)
    return CellTable(
        tuple(source.file for source in sources),
        np.array([source.index for source in sources], np.int64),
        tuple(source.split for source in sources),
        np.array([centroid_of.get((source.file, source.index), unknown) for source in sources]).reshape(-1, 3),
    )


def _cell_file(path: Path, sources: Sequence[CellSource]) -> CellFile:
    name = os.fsencode(path).decode("utf-8", "replace")
    n_cells = sum(source.file == name or source.file.startswith(f"{name}{os.sep}") for source in sources)
    try:
        return CellFile(name, n_cells, *file_state(path))
    except OSError:
        return CellFile(name, n_cells)


def _key(table: CellTable, row: int, image: NDArray[np.uint8]) -> tuple[str, str, int, bytes]:
    digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
    return table.files[row], table.splits[row], int(table.indices[row]), digest


def _first_errors(errors: list[str]) -> tuple[str, ...]:
    if len(errors) <= MAX_ERRORS:
        return tuple(errors)
    return (*errors[: MAX_ERRORS - 1], f"{len(errors) - MAX_ERRORS + 1:,} more images can't be read.")


def _progress_tracker(progress: AddProgress) -> ProgressTracker:
    def track(items, description, total):  # type: ignore[no-untyped-def]
        for number, item in enumerate(items):
            progress(number / max(1, total), description)
            yield item

    return track
