"""Tables of labels: CSV and TSV files with a row per image, which name its file, its class and perhaps its split and group."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from nephros.data.folders.image_files import is_image_name
from nephros.data.input_files import read_bytes
from nephros.data.split_names import DuplicateSplitError, find_splits, is_split_word
from nephros.errors import FileError

TABLE_SUFFIXES = (".csv", ".tsv")
_COLUMN_NAMES = {
    "file": (
        "file", "filename", "filenames", "filepath", "path", "imagefile", "imagefilename", "imagename", "imagepath", "image",
        "imageid", "imgfile", "imgname", "imgpath", "img", "imgid", "name", "id", "idcode",
    ),
    "label": (
        "classname", "labelname", "class", "label", "classes", "labels", "category", "celltype", "target", "diagnosis", "dx",
        "classid", "labelid", "y",
    ),
    "split": ("split", "subset", "set", "partition", "datasplit", "usage", "phase"),
    "group": (
        "group", "groupid", "groups", "patient", "patientid", "subject", "subjectid", "donor", "donorid", "participant",
        "participantid", "individual", "animal", "animalid", "mouse", "mouseid", "case", "caseid", "lesionid", "specimen",
        "specimenid", "biopsy", "biopsyid", "sampleid", "slide", "slideid",
    ),
}  # fmt: skip
"""What a column holds -> the names under which it is recognized, in lower case without punctuation; the first one wins."""
_ONE_HOT_VALUES = {"0": False, "0.0": False, "1": True, "1.0": True}
_EXPECTED = "a table of labels has the columns file and label, and may have split and group"


@dataclass(frozen=True)
class LabelRow:
    """One row: an image file, as the table writes it, with its label, split and group; "" where the table has none."""

    line: int
    """Its line in the table, from 1."""
    file: str
    label: str
    split: str
    """train, val, test or ""."""
    group: str


@dataclass(frozen=True)
class LabelTable:
    """A table of labels whose every row names a file."""

    path: Path
    rows: tuple[LabelRow, ...]
    columns: str
    """What the columns were taken for, such as ``label from its column dx``."""


def read_label_table(path: Path) -> LabelTable:
    """Read a CSV or TSV file with the columns file and label, and perhaps split and group, under these or similar names.

    Instead of label it may have one column per class, with 1 in that of the image's class and 0 in the others. Without a
    header, the columns are recognized by what they hold, as in the CSV files that the ``medmnist`` package writes.

    Raises:
        FileError: the file can't be read, is no such table, or gives an image several labels.
    """
    header, body = _read_cells(path)
    columns = _columns_of_header(path, header) if header else _columns_of_values(body)
    if "label" in columns:
        labels = [row[columns["label"]] for _, row in body]
        origin = f"label from its column {header[columns['label']]}" if header else "label from its last column"
    else:
        labels, origin = _one_hot_labels(path, header, body, columns), "label from one column per class"
    splits = _split_values(path, body, columns["split"]) if "split" in columns else {}
    rows = []
    for (line, row), label in zip(body, labels, strict=True):
        if not row[columns["file"]]:
            raise FileError(path, f"{path}: line {line} names no file; {_EXPECTED}.")
        split = splits[row[columns["split"]]] if "split" in columns else ""
        rows.append(
            LabelRow(line, row[columns["file"]], label, split, row[columns["group"]] if "group" in columns else "")
        )
    if "group" in columns:
        origin += f", group from {header[columns['group']]}"
    return LabelTable(path, tuple(rows), origin)


def label_table_columns(path: Path) -> set[str]:
    """Return which of file, label, split and group a file has as columns; nothing for a file that is no table of images."""
    try:
        header, body = _read_cells(path)
        columns = _columns_of_header(path, header) if header else _columns_of_values(body)
    except FileError:
        return set()
    return set(columns)


def _read_cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header, empty if there is none, and the rows, each with its line number and as long as the longest."""
    if path.is_file() and path.stat().st_size == 0:
        raise FileError(path, f"{path} has no rows; {_EXPECTED}.")
    data = read_bytes(path)
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # as spreadsheets on Windows write it
    first_line = text.lstrip().split("\n", 1)[0]
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t|", key=first_line.count))
        lines = [(reader.line_num, [" ".join(cell.splitlines()).strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise FileError(path, f"{path} is not a CSV or TSV file ({error}); {_EXPECTED}.") from error
    lines = [(line, row) for line, row in lines if any(row)]
    width = max((len(row) for _, row in lines), default=0)
    lines = [(line, row + [""] * (width - len(row))) for line, row in lines]
    has_header = bool(lines) and not any(is_image_name(cell) for cell in lines[0][1])
    header, body = (lines[0][1], lines[1:]) if has_header else ([], lines)
    if not body:
        raise FileError(path, f"{path} has no rows; {_EXPECTED}.")
    return header, body


def _columns_of_header(path: Path, header: list[str]) -> dict[str, int]:
    """Return what a column holds -> its index, by the names in the header."""
    names = [re.sub(r"[\W_]", "", cell.casefold()) for cell in header]
    if "predictionset" in names:
        raise FileError(path, f"{path} is a table of predictions, which are no labels; {_EXPECTED}.")
    columns = {
        kind: names.index(name)
        for kind, candidates in _COLUMN_NAMES.items()
        if (name := next((candidate for candidate in candidates if candidate in names), None)) is not None
    }
    if "file" not in columns:
        raise FileError(
            path, f"{path} has the columns {', '.join(header)[:200]}, none of which names files; {_EXPECTED}."
        )
    return columns


def _columns_of_values(body: list[tuple[int, list[str]]]) -> dict[str, int]:
    """Return what a column holds -> its index, by its values, for a table without a header."""
    values = list(zip(*(row for _, row in body), strict=True))
    file = next(index for index, cell in enumerate(body[0][1]) if is_image_name(cell))
    columns = {"file": file}
    others = [index for index in range(len(values)) if index != file]
    splits = [index for index in others if all(is_split_word(value) for value in values[index])]
    if splits:
        columns["split"] = splits[0]
        others.remove(splits[0])
    return columns | ({"label": others[0]} if len(others) == 1 else {})


def _one_hot_labels(
    path: Path, header: list[str], body: list[tuple[int, list[str]]], columns: dict[str, int]
) -> list[str]:
    """Return the name of the column that has a 1 in each row."""
    values = list(zip(*(row for _, row in body), strict=True))
    if not header:
        n_labels = len(values) - len(columns)
        raise FileError(
            path,
            f"{path} has {n_labels} columns that may be labels, and no header; {_EXPECTED}. Images with several labels are not "
            "supported.",
        )
    indices = [i for i in range(len(values)) if i not in columns.values() and set(values[i]) <= set(_ONE_HOT_VALUES)]
    if len(indices) < 2:
        raise FileError(path, f"{path} has the columns {', '.join(header)[:200]}, but no label; {_EXPECTED}.")
    labels = []
    for line, row in body:
        names = [header[index] for index in indices if _ONE_HOT_VALUES[row[index]]]
        if len(names) != 1:
            raise FileError(
                path,
                f"{path}: line {line} gives an image {len(names)} labels ({', '.join(names[:5])}); images with several labels "
                "are not supported, and those with none must be left out.",
            )
        labels += names
    return labels


def _split_values(path: Path, body: list[tuple[int, list[str]]], column: int) -> dict[str, str]:
    """Return value of the split column -> train, val or test."""
    values = {row[column] for _, row in body}
    try:
        splits = {word: split for split, word in find_splits({value.casefold() for value in values}).items()}
    except DuplicateSplitError as error:
        raise FileError(path, f"In the split column of {path}, {error}; use the words train, val and test.") from error
    split_of_value = {value: splits[value.casefold()] for value in values if value.casefold() in splits}
    for line, row in body:
        if row[column] not in split_of_value:
            value = row[column] or "empty"
            raise FileError(path, f"{path}: line {line} has the split '{value}', but it must be train, val or test.")
    return split_of_value
