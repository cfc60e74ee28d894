"""Which cells of a project the labels of a file are of: by their numbers, their sources, their places or their pixels."""

from __future__ import annotations

import csv
import hashlib
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.cell_reading import file_state
from nephros.annotation.imported_nuclei import add_class_table, add_exported_nuclei, add_geojson
from nephros.annotation.label_collection import FileLabels, LabelCollector
from nephros.annotation.project import Project
from nephros.data.delimited_text import is_missing, parse_delimited_text
from nephros.data.folders.label_table import read_label_table
from nephros.data.npz.labeled_images import ArrayLabels, read_array_labels
from nephros.data.npz.stream import ImageArray, open_image_arrays
from nephros.errors import FileError, NephrosError
from nephros.escaping import unescape_from_csv
from nephros.files import absolute_path
from nephros.inference.array_cells import arrays_to_cells
from nephros.microscopy.class_geojson import is_geojson_name
from nephros.microscopy.class_table import ClassRow, read_class_table
from nephros.reading import MAX_CSV_BYTES, file_errors, read_bytes

_ADVICE = "give a CSV table, QuPath's GeoJSON or an npz file"
_PROJECT_COLUMNS = {"cell", "class", "file", "index"}
"""Columns of a table that a project exported; a column cell without the others holds ids in a mask, as in other tables."""


def read_file_labels(project: Project, path: Path) -> FileLabels:
    """Read the labels of a file, by its content a zip archive, JSON or a table.

    Raises:
        FileError: the file is missing, damaged, or has no labels that can be read.
    """
    with file_errors(path, _ADVICE):
        content = read_bytes(path, MAX_CSV_BYTES) if not _is_zip(path) else b""
    labels = LabelCollector()
    if not content and _is_zip(path):
        _add_npz(project, path, labels)
    elif is_geojson_name(path) or content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        add_geojson(project, path, content, labels)
    else:
        _add_table(project, path, content, labels)
    return labels.result()


def _is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


# Tables


def _add_table(project: Project, path: Path, content: bytes, labels: LabelCollector) -> None:
    with file_errors(path, _ADVICE):
        try:
            rows = parse_delimited_text(content).rows
        except (csv.Error, UnicodeError):
            raise FileError(path, f"{path} is not a table of labels; {_ADVICE}.") from None
    header = [name.strip().casefold() for name in rows[0][1]] if rows else []
    if set(header) >= (_PROJECT_COLUMNS if project.has_stack else {"cell", "class"}):
        _add_project_table(project, path, header, rows[1:], labels)
        return
    if not project.has_stack:
        _add_file_table(project, path, labels)
        return
    try:
        add_class_table(project, read_class_table(path), labels)
        if "cell" in header and "id" not in header:
            labels.notes.append(f"{path.name}: its column cell is taken for the ids of nuclei in the mask.")
    except FileError as error:
        if "file" not in header:
            raise
        try:
            _add_file_table(project, path, labels)
        except FileError:
            raise error from None


def _add_project_table(
    project: Project,
    path: Path,
    header: Sequence[str],
    rows: Iterable[tuple[int, Sequence[str]]],
    labels: LabelCollector,
) -> None:
    """Add the rows of a table that a project exported: by the sources of the cells, which another project may count otherwise.

    Raises:
        FileError: the nuclei of a stack are at other positions.
    """
    stacks = {stack.path for stack in project.info.stacks}
    cells_by_key: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for cell, (file, index, split) in enumerate(
        zip(project.table.files, project.table.indices.tolist(), project.table.splits, strict=True)
    ):
        if file not in stacks:
            cells_by_key[PurePath(file).name, split, str(index)].append(cell)
    nuclei: list[ClassRow] = []
    annotators: list[str] = []
    for line, row in rows:
        value = {name: unescape_from_csv(text) for name, text in zip(header, row, strict=False)}
        if is_missing(value["class"]):
            continue
        if value.get("stack") and value.get("id"):
            nuclei.append(ClassRow(line, value["class"], _whole_number(value["id"]), _position(value), value["stack"]))
            annotators.append(value.get("annotator", ""))
            continue
        number = _whole_number(value["cell"])
        if value.get("file"):
            name = PurePath(value["file"].replace("\\", "/")).name
            cells = cells_by_key[name, value.get("split", ""), value.get("index") or "0"]
        else:
            cells = [number] if 0 <= number < project.n_cells else []
        if len(cells) > 1:
            cells = [c for c in cells if _ends_with(project.table.files[c], value.get("file", ""))] or cells
            cells = [number] if number in cells else cells
        labels.add(cells if len(cells) == 1 else [], value["class"], value.get("annotator", ""))
    add_exported_nuclei(project, path, nuclei, annotators, labels)


def _whole_number(text: str) -> int:
    """Return a number of a cell or a nucleus; -1, which none has, for other text."""
    return int(text) if text.isdecimal() and len(text) < 10 else -1


def _position(value: Mapping[str, str]) -> tuple[float, float, float] | None:
    """Return z, y and x in voxels; None where the row doesn't say them."""
    try:
        z, y, x = (float(value.get(axis, "")) for axis in "zyx")
    except ValueError:
        return None
    return (z, y, x) if math.isfinite(z + y + x) else None


def _ends_with(path: str, end: str) -> bool:
    """Return whether a path's last parts are those of another, such as ``a/cells.npz``."""
    parts = PurePath(end.replace("\\", "/")).parts
    return len(parts) > 0 and PurePath(path).parts[-len(parts) :] == parts


def _add_file_table(project: Project, path: Path, labels: LabelCollector) -> None:
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


# npz files


def _add_npz(project: Project, path: Path, labels: LabelCollector) -> None:
    arrays = {array.images: array for array in read_array_labels(path)}
    images = {array.name: array for array in open_image_arrays(path) if isinstance(array, ImageArray)}
    if any(file.path == str(path) and (file.size, file.modified_ns) == file_state(path) for file in project.info.files):
        _add_by_position(project, path, list(arrays.values()), labels)
    else:
        _add_by_pixels(project, [(images[name], array) for name, array in arrays.items() if name in images], labels)


def _add_by_position(project: Project, path: Path, arrays: Sequence[ArrayLabels], labels: LabelCollector) -> None:
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


def _add_by_pixels(project: Project, arrays: Sequence[tuple[ImageArray, ArrayLabels]], labels: LabelCollector) -> None:
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
