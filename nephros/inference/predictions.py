"""Answers as a table: a column a name, written as CSV, JSON or Parquet, or shown on the terminal."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import UserError
from nephros.files import atomic
from nephros.inference.reader import Row

SUFFIXES = (".csv", ".json", ".parquet")
SHOWN = 10
"""Rows that the terminal shows."""


@dataclass(frozen=True)
class Predictions:
    """A row for each cell, in the order in which they were named, and for each input that could not be read."""

    rows: list[Row]
    probabilities: NDArray[np.float32]
    """(n, classes); NaN where there is no answer."""
    sets: NDArray[np.bool_]
    """(n, classes), whether a class is in the prediction set."""
    reasons: list[str]
    """In which ways a cell is unfamiliar; empty where it is not."""
    errors: dict[int, str]
    """Row -> why it has no answer."""
    class_names: tuple[str, ...]
    notes: list[str]
    """What was done to pictures, and how sets are to be read; one sentence each."""
    model: dict[str, Any]
    """Which model answered: recipe, data, weights."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """(n,), whether a row has an answer."""
        found = np.ones(len(self), dtype=np.bool_)
        found[list(self.errors)] = False
        return found

    def columns(self) -> dict[str, list[Any]]:
        """Return the table as plain values by column; where there is no answer they are None and only `error` tells."""
        there = self.answered.tolist()
        labels = np.nan_to_num(self.probabilities, nan=-1).argmax(axis=1).tolist()
        names = self.class_names
        found: dict[str, list[Any]] = {
            "file": [row.file for row in self.rows],
            "index": [row.index for row in self.rows],
            "split": [row.split for row in self.rows],
            "label": [c if ok else None for c, ok in zip(labels, there, strict=True)],
            "class_name": [names[c] if ok else None for c, ok in zip(labels, there, strict=True)],
        }
        rounded = np.round(self.probabilities.astype(np.float64), 6)
        for c in range(len(names)):
            found[f"p_{c}"] = [p if ok else None for p, ok in zip(rounded[:, c].tolist(), there, strict=True)]
        found["prediction_set"] = [s if ok else None for s, ok in zip(_words(self.sets), there, strict=True)]
        found["unfamiliar"] = [bool(why) if ok else None for why, ok in zip(self.reasons, there, strict=True)]
        found["reason"] = list(self.reasons)
        found["error"] = [self.errors.get(i, "") for i in range(len(self))]
        return found


def _words(sets: NDArray[np.bool_]) -> list[str]:
    """Return "0 6 7" for a row whose classes 0, 6 and 7 are in."""
    if not len(sets):
        return []
    kinds, which = np.unique(sets, axis=0, return_inverse=True)
    words = [" ".join(map(str, np.flatnonzero(kind))) for kind in kinds]
    return [words[i] for i in which.reshape(-1)]


def check_out(out: Path) -> None:
    """Raise UserError unless a table can be written to `out`."""
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out is {out}, but it must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: name a file.")
    if out.suffix.lower() == ".parquet":
        _pyarrow()


def write(predictions: Predictions, out: Path) -> None:
    """Write the table in the format that the suffix of `out` names, all or nothing; JSON and Parquet hold the notes too."""
    kind = out.suffix.lower()
    with atomic(out, "wb" if kind == ".parquet" else "w") as file:
        if kind == ".csv":
            write_csv(predictions, file)
        elif kind == ".json":
            about = {"model": predictions.model, "class_names": predictions.class_names, "notes": predictions.notes}
            columns = predictions.columns()
            columns["prediction_set"] = [
                np.flatnonzero(row).tolist() if ok else None
                for row, ok in zip(predictions.sets, predictions.answered.tolist(), strict=True)
            ]
            columns["error"] = [error or None for error in columns["error"]]
            rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
            file.write(json.dumps(about, ensure_ascii=False)[:-1] + ', "rows": [\n')
            file.write(",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]}\n")
        else:
            _write_parquet(predictions, file)


def write_csv(predictions: Predictions, file: IO[str]) -> None:
    """Write the table as CSV with a line of names (RFC 4180, but for line ends); true and false as those words."""
    writer = csv.writer(file, lineterminator="\n")
    columns = predictions.columns()
    columns["unfamiliar"] = [None if value is None else str(value).lower() for value in columns["unfamiliar"]]
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))


def _write_parquet(predictions: Predictions, file: IO[bytes]) -> None:
    pyarrow = _pyarrow()
    import pyarrow.parquet as parquet

    kinds = {"index": pyarrow.int64(), "label": pyarrow.int32(), "unfamiliar": pyarrow.bool_()}
    kinds |= {f"p_{c}": pyarrow.float32() for c in range(len(predictions.class_names))}
    columns = predictions.columns()
    arrays = {name: pyarrow.array(values, kinds.get(name, pyarrow.string())) for name, values in columns.items()}
    about = {"model": predictions.model, "class_names": predictions.class_names, "notes": predictions.notes}
    table = pyarrow.table(arrays).replace_schema_metadata({"nephros": json.dumps(about)})
    parquet.write_table(table, file)


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise UserError("Writing Parquet needs pyarrow: pip install 'nephros[parquet]'.") from None
    return pyarrow


def show(predictions: Predictions) -> None:
    """Print the first rows and how many cells each class has."""
    from rich.markup import escape
    from rich.table import Table

    from nephros.console import table_console

    console, columns, there = table_console(), predictions.columns(), predictions.answered
    first = Table("file", "index", "class", "probability", "prediction set", "unfamiliar")
    for i in range(min(SHOWN, len(predictions))):
        end = ["", "", "", escape(plain(columns["error"][i]))]
        if there[i]:
            name = f"{columns['label'][i]} {columns['class_name'][i]}"
            end = [
                name,
                f"{predictions.probabilities[i].max():.3f}",
                columns["prediction_set"][i],
                columns["reason"][i],
            ]
        first.add_row(escape(plain(columns["file"][i])), str(columns["index"][i]), *end)
    if len(predictions) > SHOWN:
        first.caption = f"the first {SHOWN} of {len(predictions):,} rows; --out FILE writes all"
    console.print(first)
    counts = Table("class", "cells", "share")
    labels = np.nan_to_num(predictions.probabilities, nan=-1).argmax(axis=1)[there]
    for c, count in enumerate(np.bincount(labels, minlength=len(predictions.class_names)).tolist()):
        counts.add_row(f"{c} {predictions.class_names[c]}", f"{count:,}", f"{count / max(len(labels), 1):.1%}")
    counts.add_row(
        "unfamiliar", f"{(odd := sum(map(bool, predictions.reasons))):,}", f"{odd / max(len(labels), 1):.1%}"
    )
    console.print(counts)


def plain(text: str) -> str:
    """Return text without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def lines(predictions: Predictions) -> Iterator[str]:
    """Yield what is to be said beside the table: the notes, and how many rows have no answer."""
    yield from (f"note: {plain(note)}" for note in predictions.notes)
    if predictions.errors:
        first = plain(next(iter(predictions.errors.values())))
        more = f" (and {len(predictions.errors) - 1:,} more)" if len(predictions.errors) > 1 else ""
        yield f"{len(predictions.errors):,} of {len(predictions):,} rows have no answer: {first}{more}"
