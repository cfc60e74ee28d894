"""Reads the table of predictions that `nephros.predict` wrote for an npz file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from nephros.data.class_names import class_name_fault
from nephros.errors import FileError
from nephros.escaping import unescape_from_csv
from nephros.reading import MAX_CSV_BYTES, MalformedContent, file_errors, read_text

_MAX_LABELS = 1 << 16
_EXPECTED = "give the CSV file that `nephros.predict(NPZ)` wrote for this npz file, with one row per nucleus"


def read_predictions_csv(path: Path, npz_names: set[str], n: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the predictions for the `n` rows of an npz file, which has one of these names.

    Returns:
        The prediction of each row by the columns ``label``, ``class_name``, ``is_ood``, ``ood_reasons``, ``prediction_set`` (by
        names, "" where unknown) and ``p[CLASS]`` of each class (None where unknown); and the names of the classes by label,
        ``class 3`` where the table names none.

    Raises:
        FileError: the file can't be read, is damaged, or has another number of rows.
    """
    npz = min(npz_names)
    rows: dict[int, Mapping[str, str]] = {}
    names: dict[int, str] = {}
    with file_errors(path, _EXPECTED, name=f"{path}, for the {n:,} nuclei of {npz},"):
        reader = csv.DictReader(io.StringIO(read_text(path, MAX_CSV_BYTES), newline=""))
        numbered = [
            (reader.line_num, int(row["index"]), int(row["label"]), row)
            for row in reader
            if _is_nucleus(row, npz_names)
        ]
        if len(numbered) != n:
            raise FileError(path, f"{path} has {len(numbered):,} rows for {npz}, which has {n:,} nuclei; {_EXPECTED}.")
        for line, index, label, row in numbered:
            if not 0 <= index < n or not 0 <= label < _MAX_LABELS or index in rows:
                raise MalformedContent(f"line {line} has an index or a label that is none, or an index twice")
            rows[index] = row
            names[label] = unescape_from_csv(row.get("class_name") or f"class {label}")
        if fault := class_name_fault([names[label] for label in sorted(names)]):
            raise MalformedContent(fault)
        n_probabilities = sum(name.startswith("p_") and name[2:].isdecimal() for name in reader.fieldnames or ())
        n_classes = max(max(names, default=-1) + 1, min(n_probabilities, _MAX_LABELS))
        class_names = [names.get(label, f"class {label}") for label in range(n_classes)]
        return [_parse_row(rows[index], class_names) for index in range(n)], class_names


def _is_nucleus(row: Mapping[str, str | None], npz_names: set[str]) -> bool:
    """Return whether a row is of a file with one of these names, and not a nucleus again, as a member of train, val or test."""
    file = row.get("file")
    return not row.get("split") and (not file or PureWindowsPath(unescape_from_csv(file)).name in npz_names)


def _parse_row(row: Mapping[str, str | None], class_names: list[str]) -> dict[str, Any]:
    label = int(row["label"] or "")
    in_set = [int(text) for text in (row.get("prediction_set") or "").split()]
    if not all(0 <= member < len(class_names) for member in in_set):
        raise MalformedContent(f"its prediction set {row['prediction_set']} has a label that is none")
    probabilities = {f"p[{name}]": _parse_probability(row.get(f"p_{k}")) for k, name in enumerate(class_names)}
    return {
        "label": label,
        "class_name": class_names[label],
        **probabilities,
        "prediction_set": "; ".join(class_names[member] for member in in_set),
        "is_ood": (row.get("is_ood") or "").strip().lower() in ("true", "1", "yes"),
        "ood_reasons": unescape_from_csv(row.get("ood_reasons") or ""),
    }


def _parse_probability(text: str | None) -> float | None:
    if not text:
        return None
    probability = float(text)
    if not math.isfinite(probability):
        raise MalformedContent(f"it has the probability {text}")
    return probability
