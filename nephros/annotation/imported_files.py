"""Which cells of a project the labels of a file are of: by their numbers, their sources, their places or their pixels."""

from __future__ import annotations

import csv
import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.cell_reading import file_state
from nephros.annotation.project import Project
from nephros.annotation.project_file import StackSource
from nephros.data.delimited_text import is_missing, parse_delimited_text
from nephros.data.folders.label_table import read_label_table
from nephros.data.npz.labeled_images import ArrayLabels, read_array_labels
from nephros.data.npz.stream import ImageArray, open_image_arrays
from nephros.errors import FileError, NephrosError
from nephros.escaping import unescape_from_csv
from nephros.files import absolute_path
from nephros.inference.array_cells import arrays_to_cells
from nephros.microscopy.class_geojson import is_geojson_name, parse_geojson
from nephros.microscopy.class_labels import classes_of_nuclei, rows_of_stack
from nephros.microscopy.class_table import ClassTable, read_class_table
from nephros.microscopy.measurements import NucleusProperties
from nephros.reading import MAX_CSV_BYTES, file_errors, parse_json, read_bytes
from nephros.tissue.geojson import feature_id

_ADVICE = "give a CSV table, QuPath's GeoJSON or an npz file"
_MIN_SHARE = 0.5
"""Share of GeoJSON's objects with ids that nephros gave them from which all are looked up by their ids."""


@dataclass(frozen=True)
class FileLabels:
    """The labels of a file that are of cells of a project."""

    cells: tuple[int, ...]
    class_of_cell: tuple[str, ...]
    """The name of each cell's class."""
    annotators: tuple[str, ...]
    """Who labeled each cell; "" where the file doesn't say."""
    class_names: tuple[str, ...]
    """All names of classes in the file, in the order in which they appear."""
    n_missing: int
    """Number of labels of other cells."""
    notes: tuple[str, ...] = ()


class _Collector:
    """Collects labels; of several of one cell by one annotator, the last one counts."""

    def __init__(self) -> None:
        self._labels: dict[tuple[int, str], str] = {}
        self._names: dict[str, None] = {}
        self.n_missing = 0
        self.notes: list[str] = []

    def add(self, cells: Sequence[int], class_name: str, annotator: str = "") -> None:
        """Add the label of some cells; of none it counts as missing."""
        self._names[class_name] = None
        self.n_missing += not cells
        for cell in cells:
            self._labels.pop((cell, annotator), None)
            self._labels[cell, annotator] = class_name

    def result(self) -> FileLabels:
        """Return what was collected."""
        return FileLabels(
            tuple(cell for cell, _ in self._labels),
            tuple(self._labels.values()),
            tuple(annotator for _, annotator in self._labels),
            tuple(self._names),
            self.n_missing,
            tuple(self.notes),
        )


def read_file_labels(project: Project, path: Path) -> FileLabels:
    """Read the labels of a file, by its content a zip archive, JSON or a table.

    Raises:
        FileError: the file is missing, damaged, or has no labels that can be read.
    """
    with file_errors(path, _ADVICE):
        content = read_bytes(path, MAX_CSV_BYTES) if not _is_zip(path) else b""
    labels = _Collector()
    if not content and _is_zip(path):
        _add_npz(project, path, labels)
    elif is_geojson_name(path) or content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        _add_geojson(project, path, content, labels)
    else:
        _add_table(project, path, content, labels)
    return labels.result()


def _is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


# Tables


def _add_table(project: Project, path: Path, content: bytes, labels: _Collector) -> None:
    with file_errors(path, _ADVICE):
        try:
            rows = parse_delimited_text(content).rows
        except (csv.Error, UnicodeError):
            raise FileError(path, f"{path} is not a table of labels; {_ADVICE}.") from None
    header = [name.strip().casefold() for name in rows[0][1]] if rows else []
    if "cell" in header and "class" in header:
        _add_project_table(project, header, [row for _, row in rows[1:]], labels)
        return
    if not project.has_stack:
        _add_file_table(project, path, labels)
        return
    try:
        _add_class_table(project, read_class_table(path), labels)
    except FileError as error:
        if "file" not in header:
            raise
        try:
            _add_file_table(project, path, labels)
        except FileError:
            raise error from None


def _add_project_table(
    project: Project, header: Sequence[str], rows: Iterable[Sequence[str]], labels: _Collector
) -> None:
    """Add the rows of a table that a project exported: by the sources of the cells, which another project may count otherwise."""
    stacks = {stack.path: stack.name for stack in project.info.stacks}
    cells_by_key: dict[tuple[str, ...], list[int]] = {}
    for cell, (file, index, split) in enumerate(
        zip(project.table.files, project.table.indices.tolist(), project.table.splits, strict=True)
    ):
        key = (stacks[file], str(index)) if file in stacks else (PurePath(file).name, split, str(index))
        cells_by_key.setdefault(key, []).append(cell)
    column = {name: position for position, name in enumerate(header)}
    for row in rows:
        value = {name: unescape_from_csv(row[position]) for name, position in column.items()}
        if is_missing(value["class"]):
            continue
        number = int(value["cell"]) if value["cell"].isdecimal() and len(value["cell"]) < 10 else -1
        if value.get("stack") and value.get("id"):
            cells = cells_by_key.get((value["stack"], value["id"]), [])
        elif value.get("file"):
            name = PurePath(value["file"].replace("\\", "/")).name
            cells = cells_by_key.get((name, value.get("split", ""), value.get("index") or "0"), [])
        else:
            cells = [number] if 0 <= number < project.n_cells else []
        if len(cells) > 1:
            cells = [c for c in cells if _ends_with(project.table.files[c], value.get("file", ""))] or cells
            cells = [number] if number in cells else cells
        labels.add(cells if len(cells) == 1 else [], value["class"], value.get("annotator", ""))


def _ends_with(path: str, end: str) -> bool:
    """Return whether a path's last parts are those of another, such as ``a/cells.npz``."""
    parts = PurePath(end.replace("\\", "/")).parts
    return len(parts) > 0 and PurePath(path).parts[-len(parts) :] == parts


def _add_file_table(project: Project, path: Path, labels: _Collector) -> None:
    """Add the rows of a table of files and labels: by the path of each file, or else by its name."""
    table = read_label_table(path)
    by_path: dict[str, list[int]] = {}
    by_name: dict[str, list[int]] = {}
    for cell, file in enumerate(project.table.files):
        by_path.setdefault(file, []).append(cell)
        by_name.setdefault(PurePath(file).name, []).append(cell)
    for row in table.rows:
        if not row.label:
            continue
        file = row.file.replace("\\", "/")
        cells = by_path.get(str(absolute_path(path.parent / file))) or by_name.get(PurePath(file).name, [])
        labels.add(cells if len(cells) == 1 else [], unescape_from_csv(row.label))
    labels.notes += table.warnings


def _add_class_table(project: Project, table: ClassTable, labels: _Collector) -> None:
    """Add the rows of a table of nuclei of stacks: by their ids in the masks, or by their positions."""
    stacks = project.info.stacks
    if len(stacks) > 1 and {row.stack for row in table.rows} == {""}:
        raise FileError(
            table.path,
            f"{table.path} does not say which of {len(stacks)} stacks each row is of; add a column stack with their names, such "
            f"as {stacks[0].name}.",
        )
    n_labels = 0
    for number, stack in enumerate(stacks):
        rows = rows_of_stack(table, Path(stack.path), stack.name, len(stacks), number)
        cells, nuclei = _nuclei_of_stack(project, stack)
        known_ids = set(nuclei.ids.tolist())
        known = [row for row in rows if row.id is None or row.id in known_ids]
        for row in rows:
            if row.id is not None and row.id not in known_ids:
                labels.add([], row.class_name)
        n_labels += len(rows)
        if not known:
            continue
        classes = classes_of_nuclei(table, known, nuclei, stack.voxel_size, stack.level_step)
        cell_of_id = dict(zip(nuclei.ids.tolist(), cells.tolist(), strict=True))
        for nucleus_id, class_name in classes.class_of_id.items():
            labels.add([cell_of_id[nucleus_id]], class_name)
        labels.notes += classes.notes
    labels.n_missing += len(table.rows) - n_labels
    labels.notes += table.notes


def _nuclei_of_stack(project: Project, stack: StackSource) -> tuple[NDArray[np.int64], NucleusProperties]:
    """Return the cells of a stack, in ascending order of their ids, and what is known of these nuclei."""
    table = project.table
    cells = np.array([cell for cell, file in enumerate(table.files) if file == stack.path], np.int64)
    cells = cells[np.argsort(table.indices[cells], kind="stable")]
    n = len(cells)
    nuclei = NucleusProperties(
        ids=table.indices[cells],
        voxels=table.volumes[cells],
        centroids=table.centroids[cells],
        mean_intensity=np.full(n, np.nan),
        touches_edge=np.zeros((n, 2), np.bool_),
        far_voxels=np.zeros(n, np.int64),
    )
    return cells, nuclei


# GeoJSON


def _add_geojson(project: Project, path: Path, content: bytes, labels: _Collector) -> None:
    with file_errors(path, _ADVICE):
        header, rows = parse_geojson(content)
        values = parse_json(content.decode("utf-8-sig"))
    if not project.has_stack:
        raise FileError(path, f"{path} has outlines of nuclei of stacks, and {project.root} has no stack.")
    features = values.get("features", [values]) if isinstance(values, dict) else values
    ids = [feature.get("id") for feature in features]
    cell_of_id = _feature_ids(project)
    n_matches = sum(isinstance(name, str) and name in cell_of_id for name in ids)
    if n_matches < _MIN_SHARE * len(ids) or not n_matches:
        _add_class_table(project, read_class_table(path), labels)
        return
    class_column = header.index("Classification")
    for number, row in rows:
        name = ids[number - 1]
        if not is_missing(row[class_column]):
            labels.add([cell_of_id[name]] if name in cell_of_id else [], row[class_column])


def _feature_ids(project: Project) -> dict[Any, int]:
    """Return the cell of each id that `nephros.tissue.geojson` gives to a feature."""
    stacks = {stack.path: stack for stack in project.info.stacks}
    cells: dict[Any, int] = {}
    for cell, (file, index) in enumerate(zip(project.table.files, project.table.indices.tolist(), strict=True)):
        if file in stacks:
            for name in (
                stacks[file].name,
                PurePath(file).name,
                file,
            ):  # `nephros.save_cells` names stacks by their files
                cells.setdefault(feature_id(name, index), cell)
    return cells


# npz files


def _add_npz(project: Project, path: Path, labels: _Collector) -> None:
    arrays = {array.images: array for array in read_array_labels(path)}
    images = {array.name: array for array in open_image_arrays(path) if isinstance(array, ImageArray)}
    if any(file.path == str(path) and (file.size, file.modified_ns) == file_state(path) for file in project.info.files):
        _add_by_position(project, path, list(arrays.values()), labels)
    else:
        _add_by_pixels(project, [(images[name], array) for name, array in arrays.items() if name in images], labels)


def _add_by_position(project: Project, path: Path, arrays: Sequence[ArrayLabels], labels: _Collector) -> None:
    """Add the labels of a file from which the project's cells are."""
    table = project.table
    cells = {
        (table.splits[cell], int(table.indices[cell])): cell
        for cell, file in enumerate(table.files)
        if file == str(path)
    }
    for array in arrays:
        for index, class_name in enumerate(array.class_names.tolist()):
            if class_name:
                cell = cells.get((array.split, index))
                labels.add([] if cell is None else [cell], class_name)


def _add_by_pixels(project: Project, arrays: Sequence[tuple[ImageArray, ArrayLabels]], labels: _Collector) -> None:
    """Add the labels of images that are the same as those of cells, once they are converted to the model's input."""
    cells_by_digest: dict[bytes, list[int]] = {}
    for cell, image in enumerate(project.images()):
        cells_by_digest.setdefault(_digest(image), []).append(cell)
    info = project.info
    for images, array in arrays:
        names = iter(array.class_names.tolist())
        for batch in images.iter_batches():
            cells: Any = [None] * len(batch)
            try:
                cells, _ = arrays_to_cells(batch, info.image_shape, info.conversion)
            except NephrosError as error:
                labels.notes.append(f"{images.path}: some images are left out. {error}")
            for image, class_name in zip(cells, itertools.islice(names, len(batch)), strict=True):
                if class_name:
                    labels.add([] if image is None else cells_by_digest.get(_digest(image), []), class_name)


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
