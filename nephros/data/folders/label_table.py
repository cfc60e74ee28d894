"""Tables of labels: CSV and TSV files with a row per image, which name its file, its class and perhaps its split and group."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nephros.data.delimited_text import is_missing, parse_delimited_text
from nephros.data.folders.image_files import is_image_name
from nephros.data.folders.label_columns import (
    EXPECTED_COLUMNS,
    TRUTH_VALUES,
    Rows,
    columns_of_header,
    columns_of_values,
    other_label_columns,
    split_flags,
)
from nephros.data.input_files import read_bytes
from nephros.data.split_names import DuplicateSplitError, find_splits, split_of_flags
from nephros.data.splitting import GROUP_RULES
from nephros.errors import FileError, InvalidArgument
from nephros.text_tables import join_words

TABLE_SUFFIXES = (".csv", ".tsv")
_ONE_HOT_VALUES = {"0", "0.0", "1", "1.0"}


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
    warnings: tuple[str, ...] = ()
    """What may have been taken for something else; one sentence each."""


def read_label_table(path: Path, group_column: str = "") -> LabelTable:
    """Read a CSV or TSV file with the columns file and label, and perhaps split and group, under these or similar names.

    Instead of label it may have one column per class, with 1 in that of the image's class and 0 in the others, and instead of
    split columns of truth values such as is_train or is_valid. Without a header, the columns are recognized by what they hold, as
    in the CSV files that the ``medmnist`` package writes.

    `group_column` is the column of groups, whatever it is called; "" takes the one that is named like groups, if there is one.

    Raises:
        FileError: the file can't be read, is no such table, or gives an image several labels.
        InvalidArgument: there is no column `group_column`, which callers know as `groups`.
    """
    header, body, is_windows_text = _read_cells(path)
    columns = columns_of_header(path, header) if header else columns_of_values(body)
    if group_column:
        columns["group"] = find_column(path, header, group_column)
    flags = split_flags(header, body) if "split" not in columns else {}
    labels, origin = _labels(path, header, body, columns, set(flags.values()))
    splits = _splits(path, body, columns, flags)
    groups = [row[columns["group"]] if "group" in columns else "" for _, row in body]
    rows = []
    for (line, row), label, split, group in zip(body, labels, splits, groups, strict=True):
        if not row[columns["file"]]:
            raise FileError(path, f"{path}: line {line} names no file; {EXPECTED_COLUMNS}.")
        label, group = ("" if is_missing(cell) else cell for cell in (label, group))
        rows.append(LabelRow(line, row[columns["file"]], label, split, group))
    if flags:
        origin += f", split from {join_words(header[index] for index in flags.values())}"
    if "group" in columns:
        origin += f", group from {header[columns['group']]}"
    return LabelTable(path, tuple(rows), origin, _warnings(path, header, body, columns, is_windows_text))


def find_column(path: Path, header: Sequence[str], name: str) -> int:
    """Return the index of a column by its name, whatever its capitals; raise InvalidArgument, of `groups`, for no such column."""
    names = [column.casefold() for column in header]
    if name.casefold() not in names:
        raise InvalidArgument(
            "groups",
            name,
            f"one of {', '.join(GROUP_RULES)} or a column of {path.name}",
            hint=f"Its columns are {', '.join(header)[:200]}." if header else "It has no header.",
        )
    return names.index(name.casefold())


def label_table_columns(path: Path) -> set[str]:
    """Return which of file, label, split and group a file has as columns; nothing for a file that is not a table of images."""
    try:
        header, body, _ = _read_cells(path)
        columns = columns_of_header(path, header) if header else columns_of_values(body)
    except FileError:
        return set()
    return set(columns)


def _read_cells(path: Path) -> tuple[Sequence[str], Rows, bool]:
    """Return the header, empty if there is none, the rows, and whether the text was read in a Windows code page."""
    if path.is_file() and path.stat().st_size == 0:
        raise FileError(path, f"{path} has no rows; {EXPECTED_COLUMNS}.")
    try:
        text = parse_delimited_text(read_bytes(path))
    except (csv.Error, UnicodeError) as error:
        raise FileError(path, f"{path} is not a CSV or TSV file ({error}); {EXPECTED_COLUMNS}.") from error
    has_header = bool(text.rows) and not any(is_image_name(cell) for cell in text.rows[0][1])
    header, body = (text.rows[0][1], text.rows[1:]) if has_header else ((), text.rows)
    if not body:
        raise FileError(path, f"{path} has no rows; {EXPECTED_COLUMNS}.")
    return header, body, text.is_windows_text


def _labels(
    path: Path, header: Sequence[str], body: Rows, columns: dict[str, int], not_classes: set[int]
) -> tuple[list[str], str]:
    """Return the label of each row, and where it is from; `not_classes` are columns that hold something else."""
    if "label" not in columns:
        return _one_hot_labels(path, header, body, {*columns.values(), *not_classes}), "label from one column per class"
    origin = f"label from its column {header[columns['label']]}" if header else "label from its last column"
    return [row[columns["label"]] for _, row in body], origin


def _warnings(
    path: Path, header: Sequence[str], body: Rows, columns: dict[str, int], is_windows_text: bool
) -> tuple[str, ...]:
    warnings = []
    if is_windows_text:
        warnings.append(f"{path.name} is not in UTF-8: its names are read as Windows text (code page 1252).")
    if "label" in columns and (others := other_label_columns(header, body, columns["label"])):
        warnings.append(
            f"The classes are those in the column {header[columns['label']]} of {path.name}, not those in {join_words(others)}, "
            "which differ; leave one of these columns in the table."
        )
    return tuple(warnings)


def _one_hot_labels(path: Path, header: Sequence[str], body: Rows, not_classes: set[int]) -> list[str]:
    """Return the name of the column, among those that may be classes, that has a 1 in each row."""
    values = list(zip(*(row for _, row in body), strict=True))
    if not header:
        n_labels = len(values) - len(not_classes)
        raise FileError(
            path,
            f"{path} has {n_labels} columns that may be labels, and no header; {EXPECTED_COLUMNS}. Images with several labels "
            "are not supported.",
        )
    indices = [i for i in range(len(values)) if i not in not_classes and set(values[i]) <= _ONE_HOT_VALUES]
    if len(indices) < 2:
        raise FileError(path, f"{path} has the columns {', '.join(header)[:200]}, but no label; {EXPECTED_COLUMNS}.")
    labels = []
    for line, row in body:
        names = [header[index] for index in indices if TRUTH_VALUES[row[index]]]
        if len(names) != 1:
            raise FileError(
                path,
                f"{path}: line {line} gives an image {len(names)} labels ({', '.join(names[:5])}); images with several labels "
                "are not supported, and those with none must be left out.",
            )
        labels += names
    return labels


def _splits(path: Path, body: Rows, columns: dict[str, int], flags: dict[str, int]) -> list[str]:
    """Return the split of each row: train, val, test or ""."""
    if "split" in columns:
        split_of_value = _split_values(path, body, columns["split"])
        return [split_of_value[row[columns["split"]]] for _, row in body]
    if not flags:
        return [""] * len(body)
    splits = []
    for line, row in body:
        try:
            splits.append(split_of_flags({split: TRUTH_VALUES[row[index].lower()] for split, index in flags.items()}))
        except ValueError as error:
            raise FileError(path, f"{path}: line {line} is {error}.") from error
    return splits


def _split_values(path: Path, body: Rows, column: int) -> dict[str, str]:
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
