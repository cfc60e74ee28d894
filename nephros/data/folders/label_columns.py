"""Which columns of a table of labels hold files, labels, splits and groups: by the names in its header, or by their values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from nephros.data.folders.image_files import is_image_name
from nephros.data.group_names import group_column_rank
from nephros.data.split_names import SPLIT_OF_FLAG, is_split_word
from nephros.errors import FileError

Rows = Sequence[tuple[int, Sequence[str]]]
"""Line number and cells of each row."""
EXPECTED_COLUMNS = "a table of labels has the columns file and label, and may have split and group"
TRUTH_VALUES = {
    **dict.fromkeys(("0", "0.0", "false", "no", "f", "n"), False),
    **dict.fromkeys(("1", "1.0", "true", "yes", "t", "y"), True),
}
"""Words for truth values, in lower case."""
_COLUMN_NAMES = {
    "file": (
        "file", "filename", "filenames", "filepath", "path", "imagefile", "imagefilename", "imagename", "imagepath", "image",
        "imageid", "imgfile", "imgname", "imgpath", "img", "imgid", "name", "id", "idcode",
    ),
    "label": (
        "classname", "labelname", "class", "label", "classes", "labels", "category", "celltype", "target", "diagnosis", "dx",
        "classification", "phenotype", "groundtruth", "truelabel", "annotation", "classid", "labelid", "y",
    ),
    "split": ("split", "subset", "set", "partition", "datasplit", "usage", "phase"),
}  # fmt: skip
"""What a column holds -> the names under which it is recognized, in lower case without punctuation; the first one wins."""


def columns_of_header(path: Path, header: Sequence[str]) -> dict[str, int]:
    """Return what a column holds (file, label, split or group) -> its index, by the names in the header.

    Raises:
        FileError: no column names files, or the table is one of predictions.
    """
    candidates = {kind: _candidates(header, kind) for kind in (*_COLUMN_NAMES, "group")}
    if "predictionset" in map(_canonical, header):
        raise FileError(path, f"{path} is a table of predictions, which are not labels; {EXPECTED_COLUMNS}.")
    if not candidates["file"]:
        raise FileError(
            path, f"{path} has the columns {', '.join(header)[:200]}, none of which names files; {EXPECTED_COLUMNS}."
        )
    return {kind: indices[0] for kind, indices in candidates.items() if indices}


def columns_of_values(body: Rows) -> dict[str, int]:
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


def split_flags(header: Sequence[str], body: Rows) -> dict[str, int]:
    """Return split -> the index of a column of truth values that says whether a row is of it, such as ``is_valid``."""
    flags: dict[str, int] = {}
    for index, name in enumerate(header):
        split = SPLIT_OF_FLAG.get(_canonical(name))
        if split and all(row[index].lower() in TRUTH_VALUES for _, row in body):
            flags.setdefault(split, index)
    return flags


def other_label_columns(header: Sequence[str], body: Rows, column: int) -> list[str]:
    """Return the names of columns that may be labels too, and divide the rows in another way than the column of labels."""
    return [
        header[index]
        for index in _candidates(header, "label")
        if index != column and not _divide_alike((row[column], row[index]) for _, row in body)
    ]


def _divide_alike(pairs: Iterable[tuple[str, str]]) -> bool:
    """Return whether of two columns each value of the one stands for one of the other."""
    distinct = set(pairs)
    return len({first for first, _ in distinct}) == len(distinct) == len({second for _, second in distinct})


def _candidates(header: Sequence[str], kind: str) -> list[int]:
    """Return the indices of the columns whose names are those of a kind, the best first."""
    names = list(map(_canonical, header))
    if kind == "group":
        ranked = [(rank, index) for index, name in enumerate(names) if (rank := group_column_rank(name)) is not None]
        return [index for _, index in sorted(ranked)]
    return [index for candidate in _COLUMN_NAMES[kind] for index, name in enumerate(names) if name == candidate]


def _canonical(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())
