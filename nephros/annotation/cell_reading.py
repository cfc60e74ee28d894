"""Reading the cells of files, folders and stacks, converted to the input of a project's model."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.cell_conversion import UsedLevels
from nephros.annotation.cell_files import CellTable
from nephros.annotation.project_file import UNKNOWN_STATE, CellFile, ProjectInfo
from nephros.inference.reader import CellReader, CellSource
from nephros.microscopy.located import LocatedNuclei
from nephros.microscopy.location import StackLocation, display_path
from nephros.microscopy.nuclei import ProgressTracker
from nephros.microscopy.stack import StackOptions
from nephros.text_tables import pluralize

_MAX_ERRORS = 20
"""Sentences on files that can't be read which are kept; the rest is counted."""
Progress = Callable[[float | None, str], None]
"""Called with the share of the work that is done, None where it is unknown, and what is being done."""


@dataclass(frozen=True)
class ReadCells:
    """Cells that were read from files."""

    images: NDArray[np.uint8]
    """(n, h, w) or (n, h, w, 3)."""
    table: CellTable
    """Where each is from."""
    located: tuple[LocatedNuclei, ...]
    """Where the nuclei of stacks are."""
    files: tuple[CellFile, ...]
    """Those of the paths that have cells."""
    errors: tuple[str, ...]
    """What can't be read, one sentence each."""
    notes: tuple[str, ...]
    """How images became cells, and what is odd about them; one sentence each."""
    levels: UsedLevels


def read_cells(
    paths: Sequence[StackLocation],
    info: ProjectInfo,
    options: StackOptions,
    white_level: float | None,
    progress: Progress,
) -> ReadCells:
    """Read the cells of files, folders and stacks, in the order of their names.

    Raises:
        NephrosError: an option can't be used. What can't be read is among the `errors` instead.
    """
    channel = options.channel if isinstance(options.channel, int) else None
    reader = CellReader(
        list(map(str, paths)),
        info.image_shape,
        white_level,
        stack_options=options,
        conversion=info.conversion,
        channel=channel,
        level_source="training" if info.white_level is None else "the project",
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
    conversions = [f"{text} ({pluralize(count, 'cell')})" for text, count in reader.conversion_counts.items()]
    return ReadCells(
        images,
        _table(sources, reader.located),
        tuple(reader.located),
        tuple(
            dataclasses.replace(file, channel=options.channel, white_level=white_level)
            for path in paths
            if (file := _cell_file(path, sources)).n_cells
        ),
        _first_errors(list(reader.errors.values())),
        tuple(dict.fromkeys([*reader.input_notes, *conversions])),
        UsedLevels(reader.white_levels, reader.stack_levels, reader.chosen_channel),
    )


def file_state(path: StackLocation) -> tuple[int, int]:
    """Return the size of a file and when it was last changed, in nanoseconds; -1 for a folder, a part of an archive or a URL."""
    if not isinstance(path, Path) or any(parent.is_file() for parent in path.parents):
        return UNKNOWN_STATE
    stat = path.stat()
    return UNKNOWN_STATE if path.is_dir() else (stat.st_size, stat.st_mtime_ns)


def _table(sources: Sequence[CellSource], located: Sequence[LocatedNuclei]) -> CellTable:
    nuclei = {
        (stack.display_path, nucleus_id): (centroid, volume)
        for stack in located
        for nucleus_id, centroid, volume in zip(
            stack.nuclei.ids.tolist(), stack.nuclei.centroids, stack.nuclei.voxels.tolist(), strict=True
        )
    }
    rows = [nuclei.get((source.file, source.index), (np.full(3, np.nan), 0)) for source in sources]
    return CellTable(
        tuple(source.file for source in sources),
        np.array([source.index for source in sources], np.int64),
        tuple(source.split for source in sources),
        np.array([centroid for centroid, _ in rows]).reshape(-1, 3),
        np.array([volume for _, volume in rows], np.int64),
    )


def _cell_file(path: StackLocation, sources: Sequence[CellSource]) -> CellFile:
    name = display_path(path)
    n_cells = sum(source.file == name or source.file.startswith(f"{name}{os.sep}") for source in sources)
    try:
        return CellFile(name, n_cells, *file_state(path))
    except OSError:
        return CellFile(name, n_cells)


def _first_errors(errors: list[str]) -> tuple[str, ...]:
    if len(errors) <= _MAX_ERRORS:
        return tuple(errors)
    return (*errors[: _MAX_ERRORS - 1], f"{len(errors) - _MAX_ERRORS + 1:,} more images can't be read.")


def _progress_tracker(progress: Progress) -> ProgressTracker:
    def track(items, description, total):  # type: ignore[no-untyped-def]
        for number, item in enumerate(items):
            progress(number / max(1, total), description)
            yield item

    return track
