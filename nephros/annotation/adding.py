"""Adding cells to a project: those of new files, behind the cells that it has, all or none."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.cell_conversion import check_same_reading, check_white_level, with_levels
from nephros.annotation.cell_files import Cells, CellTable, save_cells
from nephros.annotation.cell_reading import Progress, ReadCells, file_state, read_cells
from nephros.annotation.known_stacks import check_same_stack, find_upload
from nephros.annotation.project_file import UNKNOWN_STATE, CellFile, StackSource
from nephros.annotation.stack_copies import copy_stack
from nephros.data.companion_files import companion_files
from nephros.errors import FileError, InvalidArgument
from nephros.microscopy.class_labels import stack_stem
from nephros.microscopy.location import StackLocation
from nephros.microscopy.stack import StackOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AddedCells:
    """What became of the files that were to be added."""

    n_added: int
    n_present: int
    """Cells that the project had already: of the same file, position and pixels."""
    errors: tuple[str, ...]
    """One sentence for each file or image that can't be read; of many, the first ones and a count."""
    notes: tuple[str, ...]
    """How images became cells, and what is odd about them; one sentence each."""


def add_cells(
    root: Path,
    cells: Cells,
    paths: Sequence[StackLocation],
    options: StackOptions,
    white_level: float | None,
    *,
    copy: bool,
    progress: Progress,
) -> AddedCells:
    """Add the cells of files to a project, as `nephros.annotation.project.Project.add_cells` explains.

    The caller holds the project's lock, and reads the project's files again afterwards.
    """
    _check_paths(root, paths, options, copy)
    new_paths, n_present = _new_paths(root, cells, paths, options, white_level, copy)
    check_white_level(cells.info, white_level)
    if not new_paths:
        return AddedCells(0, n_present, (), ())
    read = read_cells(new_paths, cells.info, options, white_level, progress)
    if copy:
        read = _without_folders(read, new_paths, options)
    if not len(read.images):
        name = _comparable(str(new_paths[0]), copy)
        reason = read.errors[0] if read.errors else f"{name} has no images."
        raise FileError(name, f"No cells can be added: {reason}")
    known = {stack.path: stack for stack in cells.info.stacks}
    for located in read.located:
        if not copy and located.display_path in known:  # in a folder, which is read again
            check_same_stack(root, located.path, known[located.display_path], options, white_level)
    info, level_notes = with_levels(cells.info, read.levels, white_level)
    read = dataclasses.replace(read, notes=(*read.notes, *level_notes))
    rows = _new_rows(read, cells, copy)
    n_present += len(read.table) - len(rows)
    if not len(rows):
        return AddedCells(0, n_present, read.errors, read.notes)
    new_folders: list[Path] = []
    try:
        stacks = _copy_stacks(root, cells, read, rows, copy, white_level, new_folders, progress)
        table = _stored_names(read.table.select(rows), stacks, copy)
        _save(root, dataclasses.replace(cells, info=info), read, stacks, rows, table, copy)
    except BaseException as error:
        for folder in new_folders:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise FileError(
                root, f"No cells were added: {root} can't be written ({reason}); free some space."
            ) from error
        raise
    return AddedCells(len(rows), n_present, read.errors, read.notes)


def _check_paths(root: Path, paths: Sequence[StackLocation], options: StackOptions, copy: bool) -> None:
    """Raise InvalidArgument for the project's own files, and for a mask among the files with cells."""
    for path in paths:
        if not copy and isinstance(path, Path) and (path.is_relative_to(root) or root.is_relative_to(path)):
            hint = "Name the files with cells themselves." if root.is_relative_to(path) and path != root else ""
            raise InvalidArgument("data", path, f"files outside of the project {root}", hint=hint)
    if options.mask is not None:
        return
    names = {f"{stack_stem(path)}{path.suffix}": path for path in paths if isinstance(path, Path) and not path.is_dir()}
    for name in sorted(companion_files(names)):
        raise InvalidArgument(
            "data",
            names[name].name,
            "left out, since it is named like the mask of another file",
            hint="Masks of stacks are given as `mask`, such as '{stem}_mask.tif'.",
        )


def _without_folders(read: ReadCells, paths: Sequence[StackLocation], options: StackOptions) -> ReadCells:
    """Return cells of uploads with sentences that don't say in which folder of the server these were."""
    files = [str(path) for path in paths] + ([options.mask] if options.mask is not None else [])
    folders = sorted({f"{Path(file).parent}/" for file in files if Path(file).is_absolute()}, key=len, reverse=True)

    def shorten(texts: tuple[str, ...]) -> tuple[str, ...]:
        for folder in folders:
            texts = tuple(text.replace(folder, "") for text in texts)
        return texts

    return dataclasses.replace(read, errors=shorten(read.errors), notes=shorten(read.notes))


def _new_paths(
    root: Path,
    cells: Cells,
    paths: Sequence[StackLocation],
    options: StackOptions,
    white_level: float | None,
    copy: bool,
) -> tuple[list[StackLocation], int]:
    """Return the paths to read, and the number of cells of the others, which were read before and have not changed.

    Raises:
        InvalidArgument: a stack is in the project with other options.
        FileError: a stack has changed since it was added.
    """
    files = {file.path: file for file in cells.info.files}
    stacks = {stack.path: stack for stack in cells.info.stacks}
    new_paths, n_present = [], 0
    for path in dict.fromkeys(paths):
        file, stack = files.get(str(path)), stacks.get(str(path))
        if copy:
            same = find_upload(root, path, cells.info.stacks, options, white_level) if isinstance(path, Path) else None
            n_present += same.n_cells if same is not None else 0
            new_paths += [path] if same is None else []
            continue
        if file is None or (isinstance(path, Path) and not path.exists()):
            new_paths.append(path)
            continue
        is_unchanged = file_state(path) == (file.size, file.modified_ns)
        if stack is not None:
            check_same_stack(
                root, path, dataclasses.replace(stack, state=(file.size, file.modified_ns)), options, white_level
            )
        else:
            check_same_reading(file, options.channel, white_level)
        if stack is not None or (is_unchanged and isinstance(path, Path) and path.is_file()):
            n_present += file.n_cells
        else:
            new_paths.append(path)
    return new_paths, n_present


def _new_rows(read: ReadCells, cells: Cells, copy: bool) -> NDArray[np.int64]:
    """Return the rows of cells that the project doesn't have yet, and that are not twice among the new ones."""
    stacks = {stack.path for stack in cells.info.stacks}
    for located in read.located:
        if located.display_path in stacks and not copy:
            logger.info("%s is in the project already, and stays as it is.", located.display_path)
    names = {_comparable(name, copy) for name in read.table.files}
    present = {
        _key(cells.table, row, cells.images[row], copy)
        for row, name in enumerate(cells.table.files)
        if _comparable(name, copy) in names
    }
    rows = []
    for row, name in enumerate(read.table.files):
        key = _key(read.table, row, read.images[row], copy)
        if key not in present and (copy or name not in stacks):
            present.add(key)
            rows.append(row)
    return np.array(rows, np.int64)


def _key(table: CellTable, row: int, image: NDArray[np.uint8], copy: bool) -> tuple[str, str, int, bytes]:
    digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
    return _comparable(table.files[row], copy), table.splits[row], int(table.indices[row]), digest


def _comparable(name: str, copy: bool) -> str:
    """Return what tells a file from others: of uploads, which are in new folders each time, the name alone."""
    return Path(name).name if copy else name


def _copy_stacks(
    root: Path,
    cells: Cells,
    read: ReadCells,
    rows: NDArray[np.int64],
    copy: bool,
    white_level: float | None,
    new_folders: list[Path],
    progress: Progress,
) -> dict[str, StackSource]:
    """Copy the stacks with new nuclei to the project, and return them by the path under which they were read."""
    stacks: dict[str, StackSource] = {}
    files = [read.table.files[row] for row in rows.tolist()]
    for located in read.located:
        n_cells = files.count(located.display_path)
        if not n_cells:
            continue
        progress(None, f"Copying {located.path.name}")
        stack = copy_stack(root, located, [*cells.info.stacks, *stacks.values()], n_cells)
        new_folders.append(root / stack.folder)
        options = dataclasses.replace(located.options, mask=None)
        stack = dataclasses.replace(stack, options=options, white_level=white_level)
        if copy and isinstance(located.path, Path):
            original, mask = _keep_original(root, stack, located.path), stack.mask
            mask = mask if located.mask_file.is_automatic else Path(mask).name
            stack = dataclasses.replace(stack, path=original, mask=mask)
        else:
            mask_state = UNKNOWN_STATE if located.mask_file.is_automatic else file_state(located.mask_file.path)
            stack = dataclasses.replace(stack, state=file_state(located.path), mask_state=mask_state)
        stacks[located.display_path] = stack
    return stacks


def _keep_original(root: Path, stack: StackSource, path: Path) -> str:
    """Copy a stack's own file or folder to that of its copy, and return its path below the project folder."""
    target = root / stack.folder / "original" / path.name
    target.parent.mkdir()
    if path.is_dir():
        shutil.copytree(path, target)
    else:
        shutil.copyfile(path, target)
    return target.relative_to(root).as_posix()


def _stored_names(table: CellTable, stacks: dict[str, StackSource], copy: bool) -> CellTable:
    """Return a table with the names under which the project keeps files."""
    names = {name: stacks[name].path if name in stacks else _comparable(name, copy) for name in set(table.files)}
    return dataclasses.replace(table, files=tuple(names[name] for name in table.files))


def _save(
    root: Path,
    cells: Cells,
    read: ReadCells,
    stacks: dict[str, StackSource],
    rows: NDArray[np.int64],
    table: CellTable,
    copy: bool,
) -> None:
    files: dict[str, CellFile] = {file.path: file for file in cells.info.files}
    for file in read.files:
        name = stacks[file.path].path if file.path in stacks else _comparable(file.path, copy)
        files[name] = dataclasses.replace(file, path=name)
    info = dataclasses.replace(
        cells.info,
        n_cells=cells.info.n_cells + len(rows),
        files=tuple(files.values()),
        stacks=(*cells.info.stacks, *stacks.values()),
        notes=tuple(dict.fromkeys([*cells.info.notes, *read.notes])),
    )
    save_cells(root, info, [cells.images, read.images[rows]], cells.table.extend(table))
