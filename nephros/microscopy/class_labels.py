"""Classes that a user assigns to a stack's nuclei, so that a model can be trained on them."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.class_names import class_name_fault
from nephros.data.dataset import SPLITS
from nephros.data.delimited_text import is_missing, parse_delimited_text
from nephros.data.images.foreign_formats import HEAD_BYTES, foreign_format
from nephros.data.splitting import stratified_split
from nephros.errors import FileError, IncompatibleError
from nephros.escaping import unescape_from_csv
from nephros.reading import MAX_CSV_BYTES, MalformedContent, file_errors, read_bytes

logger = logging.getLogger(__name__)

_EXPECTED_FORMAT = "give a table with the columns id (the nucleus's id in the mask) and class, as CSV"
_COLUMN_NAMES = (
    ("id", "nucleusid", "cellid", "objectid", "objectnumber", "labelid", "maskid", "label"),
    ("class", "classname", "celltype", "category", "classification", "phenotype"),
)
"""Names of the two columns, in lower case without punctuation; the first one wins."""
_MAX_ID_DIGITS = 18


def read_class_labels(path: str | Path) -> dict[int, str]:
    """Read a table with the columns ``id`` and ``class``, and return the class of each nucleus by its id in the mask.

    Columns are separated by commas, semicolons or tabs, and may be named in capitals. A row without a class is a nucleus
    without a label. Ids may be written as 12.0 or 12,0, as spreadsheets do.

    Raises:
        FileError: the file can't be read or is not such a table.
    """
    path = Path(path).expanduser().absolute()
    with file_errors(path, _EXPECTED_FORMAT):
        header, body = _read_rows(path)
        columns = _find_columns(header)
        class_of_id: dict[int, str] = {}
        for line, row in body:
            id_text, class_name = (row[column] for column in columns)
            if is_missing(class_name):
                continue
            nucleus_id, class_name = _parse_id(id_text, line), unescape_from_csv(class_name)
            if class_of_id.setdefault(nucleus_id, class_name) != class_name:
                raise MalformedContent(f"line {line} gives nucleus {nucleus_id} a second class")
        if not class_of_id:
            raise MalformedContent("no row has a class")
    return class_of_id


def _read_rows(path: Path) -> tuple[Sequence[str], Sequence[tuple[int, Sequence[str]]]]:
    """Return the header of a table, empty if there is none, and its rows with their line numbers."""
    content = read_bytes(path, MAX_CSV_BYTES)
    try:
        text = parse_delimited_text(content)
    except UnicodeError:
        if file_format := foreign_format(content[:HEAD_BYTES]):
            raise FileError(path, f"{path} is {file_format.name}; {_EXPECTED_FORMAT}.") from None
        raise
    if text.is_windows_text:
        logger.warning("%s is not in UTF-8: its class names are read as Windows text (code page 1252).", path)
    return (text.rows[0][1], text.rows[1:]) if text.rows else ((), ())


def _find_columns(header: Sequence[str]) -> list[int]:
    """Return the indices of a table's two columns."""
    names = [re.sub(r"[\W_]", "", name.casefold()) for name in header]
    columns = [next((names.index(name) for name in candidates if name in names), -1) for candidates in _COLUMN_NAMES]
    if -1 in columns:
        excerpt = ",".join(header)[:60]
        raise MalformedContent(f"its first line, '{excerpt}', doesn't name the columns id and class")
    return columns


def _parse_id(text: str, line: int) -> int:
    """Return a nucleus's id; spreadsheets write whole numbers as 12.0, or with the decimal comma of some languages."""
    match = re.fullmatch(r"(\d+)(?:[.,]0+)?", text)
    if match is None or len(match[1]) > _MAX_ID_DIGITS:
        excerpt = text if len(text) <= 40 else f"{text[:40]}..."
        raise MalformedContent(f"line {line} has the id '{excerpt}', which is not a whole number")
    return int(match[1])


def labeled_splits(
    images: NDArray[np.uint8],
    ids: NDArray[np.int64],
    mask_ids: NDArray[np.int64],
    class_of_id: dict[int, str],
    seed: int,
) -> dict[str, NDArray[Any]]:
    """Split the nuclei that have a class 7:1:2 by class.

    Args:
        images: (n, 28, 28) uint8.
        ids: (n,) int64, the ids of the images' nuclei in the mask.
        mask_ids: all ids of the mask, including nuclei without an image.
        class_of_id: class names by id.
        seed: of the split.

    Returns:
        Arrays in MedMNIST's layout: {train,val,test}_{images,labels}, and class_names, which are sorted.

    Raises:
        IncompatibleError: an id is not in the mask, a class has fewer than 3 nuclei, or there is only one class.
    """
    if unknown_ids := sorted(set(class_of_id) - set(mask_ids.tolist())):
        raise IncompatibleError(
            f"`classes` has the nucleus {unknown_ids[0]}, which is not in the mask; take the ids from the mask."
        )
    has_class = np.array([nucleus_id in class_of_id for nucleus_id in ids.tolist()], dtype=np.bool_)
    names = [class_of_id[nucleus_id] for nucleus_id in ids[has_class].tolist()]
    class_names = sorted(set(names))
    labels = np.array([class_names.index(name) for name in names], dtype=np.int64)
    counts = np.bincount(labels, minlength=len(class_names))
    if len(class_names) < 2:
        raise IncompatibleError(
            f"`classes` has {len(class_names)} class among the nuclei kept; a classifier needs at least two."
        )
    if fault := class_name_fault(class_names):
        raise IncompatibleError(f"In `classes`, sorted by name, {fault}; spell each class in one way.")
    if counts.min() < 3:
        rarest_class = class_names[int(counts.argmin())]
        raise IncompatibleError(
            f"`classes` has {counts.min()} nuclei of '{rarest_class}'; a class needs at least 3, one for each split."
        )
    split_index = stratified_split(labels, seed)
    arrays: dict[str, NDArray[Any]] = {"class_names": np.array(class_names)}
    for index, split in enumerate(SPLITS):
        arrays[f"{split}_images"] = images[has_class][split_index == index]
        arrays[f"{split}_labels"] = labels[split_index == index, None]
    return arrays
