"""Tables of classes as other programs write them: QuPath, Fiji, napari, CellProfiler, spreadsheets, and QuPath's GeoJSON."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nephros.data.delimited_text import is_missing, parse_delimited_text
from nephros.data.group_names import group_column_rank
from nephros.data.images.foreign_formats import HEAD_BYTES, foreign_format
from nephros.errors import FileError, UnknownName
from nephros.escaping import unescape_from_csv
from nephros.microscopy.class_geojson import is_geojson_name, parse_geojson
from nephros.reading import MAX_CSV_BYTES, MalformedContent, file_errors, read_bytes
from nephros.text_tables import pluralize

logger = logging.getLogger(__name__)

Rows = Sequence[tuple[int, Sequence[str]]]
"""Line number and cells of each row."""

_EXPECTED_FORMAT = (
    "give a table with the columns id (the nucleus's id in the mask) and class, or name them with `id_column` and "
    "`class_column`, or QuPath's GeoJSON"
)
_ID_NAMES = (
    "id", "nucleusid", "cellid", "objectid", "objectnumber", "labelid", "maskid", "label", "index", "object", "nucleus", "cell",
)  # fmt: skip
_CLASS_NAMES = (
    "class", "classname", "celltype", "category", "classification", "phenotype", "annotation", "annotations", "predictedclass",
)  # fmt: skip
_STACK_NAMES = ("stack", "image", "imagename", "imagefile", "filename", "file", "imagenumber")
"""Names of columns, in lower case without punctuation; the first one wins."""
_REGION_TYPES = ("annotation", "tile", "tmacore", "root")
"""Kinds of QuPath's objects that are regions rather than nuclei, where the table has nuclei too."""
_MICROMETERS = "µm|μm|um|microns?|micrometers?"
_CENTER = re.compile(
    rf"(?:.*(?:centroid|center|centre|pos|position)[ ._-]*)?([xyz])(?:[ _]*[\[(]?({_MICROMETERS}|px|pixels?|voxels?|)[\])]?)?",
    re.IGNORECASE,
)
"""Such as "Centroid X µm" of QuPath, Nuclei_Location_Center_X of CellProfiler, Centroid.X of MorphoLibJ, PosX of VTEA and X
of Fiji."""
_NUMBERED_CENTER = re.compile(r"(?:centroid|axis)[-_]([0-2])", re.IGNORECASE)
"""centroid-0 of scikit-image and axis-0 of napari, which count the axes of the array."""
_MAX_ID_DIGITS = 18
_MIN_ID_SHARE = 0.5
"""Share of whole numbers from which a column that is named like ids holds them."""


@dataclass(frozen=True)
class ClassRow:
    """A nucleus that has a class."""

    line: int
    class_name: str
    id: int | None
    """In the mask; None where the table says the position only."""
    center: tuple[float | None, float, float] | None = None
    """z, y and x, as far as the table says them; z may be unknown."""
    stack: str = ""
    """What the table calls the stack; "" where it doesn't."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Name of a column, such as patient -> its value."""


@dataclass(frozen=True)
class ClassTable:
    """The labeled rows of a table."""

    path: Path
    rows: tuple[ClassRow, ...]
    center_unit: str = ""
    """``micrometers`` or ``voxels``, as the header says; "" where it doesn't."""
    notes: tuple[str, ...] = ()
    """What was assumed; one sentence each."""


@dataclass(frozen=True)
class _Columns:
    """Indices of a table's columns; -1 for none."""

    class_name: int
    id: int
    stack: int
    center: tuple[int, int, int]
    """z, y and x."""
    center_unit: str
    groups: Mapping[str, int]
    note: str = ""


def read_class_table(path: str | Path, id_column: str | None = None, class_column: str | None = None) -> ClassTable:
    """Read the classes of nuclei by their ids in the mask or, where a table has none, by their positions.

    Columns are separated by commas, semicolons or tabs, and may be named in capitals. A row without a class is a nucleus
    without a label. Ids may be written as 12.0 or 12,0, as spreadsheets do.

    Args:
        path: of a table, or of a GeoJSON file as QuPath exports its objects.
        id_column: name of the column of ids; None recognizes it, or the columns of a centroid, by their usual names.
        class_column: name of the column of classes, likewise.

    Raises:
        FileError: the file can't be read or is not such a table.
        UnknownName: there is no such column.
    """
    path = Path(path).expanduser().absolute()
    with file_errors(path, _EXPECTED_FORMAT):
        header, body = _read_rows(path)
        if not header:
            raise MalformedContent("it is empty, where a table has the columns id and class")
    named = [
        None if name is None else _named_column(path, header, parameter, name)
        for parameter, name in (("id_column", id_column), ("class_column", class_column))
    ]
    with file_errors(path, _EXPECTED_FORMAT):
        columns = _find_columns(header, body, *named)
        body = [(line, row) for line, row in body if not is_missing(row[columns.class_name])]
        nuclei = _without_regions(header, body)
        rows = tuple(_parse_row(line, row, columns) for line, row in nuclei)
        if not rows:
            raise MalformedContent(f"no row has a class in its column {header[columns.class_name]}")
    notes = [columns.note] if columns.note else []
    if n_regions := len(body) - len(nuclei):
        notes.append(f"{pluralize(n_regions, 'region')} (annotations or tiles) left out beside {len(nuclei):,} nuclei")
    return ClassTable(path, rows, columns.center_unit, tuple(f"{path.name}: {note}" for note in notes))


def _without_regions(header: Sequence[str], body: Rows) -> Rows:
    """Return the rows of nuclei, where QuPath's object types tell them from rows of regions, and else all rows."""
    names = [_canonical(name) for name in header]
    if "objecttype" not in names:
        return body
    index = names.index("objecttype")
    nuclei = [
        (line, row)
        for line, row in body
        if _canonical(row[index]).removeprefix("path").removesuffix("object") not in _REGION_TYPES
    ]
    return nuclei or body


def _read_rows(path: Path) -> tuple[Sequence[str], Rows]:
    """Return the header of a table, empty if there is none, and its rows with their line numbers."""
    content = read_bytes(path, MAX_CSV_BYTES)
    if is_geojson_name(path) or content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return parse_geojson(content)
    try:
        text = parse_delimited_text(content)
    except UnicodeError:
        if file_format := foreign_format(content[:HEAD_BYTES]):
            raise FileError(path, f"{path} is {file_format.name}; {_EXPECTED_FORMAT}.") from None
        raise
    if text.is_windows_text:
        logger.warning("%s is not in UTF-8: its class names are read as Windows text (code page 1252).", path)
    return (text.rows[0][1], text.rows[1:]) if text.rows else ((), ())


def _find_columns(header: Sequence[str], body: Rows, id_column: int | None, class_column: int | None) -> _Columns:
    """Return the columns that a user names, by their indices, and those that are named as usual."""
    names = [_canonical(name) for name in header]
    stack = next((names.index(name) for name in _STACK_NAMES if name in names), -1)
    ids = [index for name in _ID_NAMES for index, other in enumerate(names) if name == other]
    class_names = [names.index(name) for name in _CLASS_NAMES if name in names]
    center, center_unit = _center_columns(header)
    if class_column is not None:
        class_names = [class_column]
    elif not class_names and "label" in names and ids[0] != names.index("label"):
        class_names = [names.index("label")]  # beside another column of ids
    labeled = [row for _, row in body if not class_names or not is_missing(row[class_names[0]])]
    note = ""
    if id_column is not None:
        id_index = id_column
    else:
        ids = [index for index in ids if index not in class_names[:1]]
        id_index = next((index for index in ids if _holds_ids(labeled, index)), -1)
        if id_index >= 0 and names[id_index] == "index" and any(row[id_index] == "0" for _, row in body):
            id_index = -1  # counts rows, where napari's column of this name holds the values of the mask
        if id_index < 0 and -1 in center[1:]:
            id_index, note = (ids[0], "") if ids else _row_number_column(header, names, labeled)
    if not class_names or (id_index < 0 and -1 in center[1:]):
        missing = "classes" if not class_names else "ids or centroids of nuclei"
        excerpt = ", ".join(header)[:160]
        raise MalformedContent(f"it has the columns {excerpt}, none of which is named like {missing}")
    used = {class_names[0], id_index, stack}
    groups = {
        re.sub(r"\W+", "_", header[index].casefold()).strip("_"): index
        for index, name in enumerate(names)
        if index not in used and group_column_rank(name) is not None
    }
    if id_column is not None:
        center = (-1, -1, -1)  # whoever names the ids means them
    return _Columns(class_names[0], id_index, stack, center, center_unit, groups, note)


def _named_column(path: Path, header: Sequence[str], parameter: str, name: str) -> int:
    """Return the index of a column that a user names, whatever its capitals."""
    folded = [column.casefold() for column in header]
    if name.strip().casefold() not in folded:
        columns = [column for column in header if column]
        raise UnknownName(parameter, name, columns, kind="column", hint=f"{path.name} has {', '.join(columns)[:200]}.")
    return folded.index(name.strip().casefold())


def _holds_ids(rows: Sequence[Sequence[str]], index: int) -> bool:
    """Return whether most values of a column are positive whole numbers; QuPath's object ids and Fiji's labels are text."""
    n_ids = sum(_match_id(row[index]) is not None and row[index] != "0" for row in rows)
    return bool(rows) and n_ids >= _MIN_ID_SHARE * len(rows)


def _row_number_column(header: Sequence[str], names: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[int, str]:
    """Return the column of row numbers in Fiji's table, or of QuPath's names that are numbers, and a note; -1 for none."""
    for index in [index for index, name in enumerate(header) if not name.strip()][:1]:
        if _holds_ids(rows, index) and {"area", "mean", "volume"} & set(names):
            return index, "its row numbers are taken for the ids of the nuclei in the mask"
    if "name" in names and _holds_ids(rows, names.index("name")):
        return names.index("name"), "its column Name is taken for the ids of the nuclei in the mask"
    return -1, ""


def _center_columns(header: Sequence[str]) -> tuple[tuple[int, int, int], str]:
    """Return the columns of a nucleus's center along z, y and x, -1 for none, and their unit."""
    columns: dict[str, int] = {}
    units: dict[str, str] = {}
    numbered: dict[int, int] = {}
    for index, name in enumerate(header):
        if match := _CENTER.fullmatch(name.strip()):
            axis = match[1].lower()
            if axis not in columns or "centr" in name.lower() or "center" in name.lower():
                columns[axis], units[axis] = index, (match[2] or "").lower()
        elif match := _NUMBERED_CENTER.fullmatch(name.strip()):
            numbered[int(match[1])] = index
    if len(numbered) > 1:
        axes = [numbered.get(number, -1) for number in range(max(numbered) + 1)]
        z, y, x = axes if len(axes) == 3 else [-1, *axes]
        return (z, y, x), "voxels"
    unit = units.get("x", "")
    meaning = "micrometers" if re.fullmatch(_MICROMETERS, unit) else "voxels" if unit else ""
    return (columns.get("z", -1), columns.get("y", -1), columns.get("x", -1)), meaning


def _parse_row(line: int, row: Sequence[str], columns: _Columns) -> ClassRow:
    class_name = unescape_from_csv(row[columns.class_name])
    stack = "" if columns.stack < 0 else row[columns.stack]
    groups = {name: "" if is_missing(row[index]) else row[index] for name, index in columns.groups.items()}
    center = _parse_center(row, line, columns)
    is_named = columns.id >= 0 and not (center is not None and is_missing(row[columns.id]))
    if not is_named and center is None:
        raise MalformedContent(f"line {line} has a class and no position")
    return ClassRow(line, class_name, _parse_id(row[columns.id], line) if is_named else None, center, stack, groups)


def _parse_center(row: Sequence[str], line: int, columns: _Columns) -> tuple[float | None, float, float] | None:
    """Return z, y and x of a row, None where it has no position; beside an id, text in their place says none, too."""
    try:
        z, y, x = (
            None if index < 0 or is_missing(row[index]) else _number(row[index], line) for index in columns.center
        )
    except MalformedContent:
        if columns.id < 0:
            raise
        return None
    return None if y is None or x is None else (z, y, x)


def _number(text: str, line: int) -> float:
    """Return a position; the decimal comma of some languages is read, too."""
    if re.fullmatch(r"-?\d+,\d+", text):
        text = text.replace(",", ".")
    if not re.fullmatch(r"-?\d{1,12}(\.\d*)?([eE][-+]?\d{1,2})?", text):
        raise MalformedContent(f"line {line} has the position '{text[:40]}', which is not a number")
    return float(text)


def _match_id(text: str) -> re.Match[str] | None:
    return re.fullmatch(r"(\d+)(?:[.,]0+)?", text)


def _parse_id(text: str, line: int) -> int:
    """Return a nucleus's id; spreadsheets write whole numbers as 12.0, or with the decimal comma of some languages."""
    match = _match_id(text)
    if match is None or len(match[1]) > _MAX_ID_DIGITS:
        excerpt = text if len(text) <= 40 else f"{text[:40]}..."
        raise MalformedContent(f"line {line} has the id '{excerpt}', which is not a whole number")
    return int(match[1])


def _canonical(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())
