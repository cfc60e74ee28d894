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

from nephros.errors import NephrosError
from nephros.files import atomic_write
from nephros.inference.reader import CellSource

TABLE_SUFFIXES = (".csv", ".json", ".parquet")
MAX_CONSOLE_ROWS = 10
"""Rows that the terminal shows."""


@dataclass(frozen=True)
class Predictions:
    """A row for each cell, in the order in which they were named, and for each input that could not be read."""

    sources: list[CellSource]
    probabilities: NDArray[np.float32]
    """(n, classes); NaN where there is no answer."""
    prediction_sets: NDArray[np.bool_]
    """(n, classes), whether a class is in the prediction set."""
    ood_reasons: list[str]
    """In which ways a cell is unfamiliar; empty where it is not."""
    errors: dict[int, str]
    """Row -> why it has no answer."""
    class_names: tuple[str, ...]
    notes: list[str]
    """What was done to pictures, and how sets are to be read; one sentence each."""
    model: dict[str, Any]
    """Which model answered: recipe, data, weights."""

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def has_prediction(self) -> NDArray[np.bool_]:
        """(n,), whether a row has an answer."""
        mask = np.ones(len(self), dtype=np.bool_)
        mask[list(self.errors)] = False
        return mask

    def to_columns(self) -> dict[str, list[Any]]:
        """Return the table as plain values by column; where there is no answer they are None and only `error` tells."""
        has_prediction = self.has_prediction.tolist()
        labels = np.nan_to_num(self.probabilities, nan=-1).argmax(axis=1).tolist()
        names = self.class_names
        columns: dict[str, list[Any]] = {
            "file": [source.file for source in self.sources],
            "index": [source.index for source in self.sources],
            "split": [source.split for source in self.sources],
            "label": [c if valid else None for c, valid in zip(labels, has_prediction, strict=True)],
            "class_name": [names[c] if valid else None for c, valid in zip(labels, has_prediction, strict=True)],
        }
        rounded = np.round(self.probabilities.astype(np.float64), 6)
        for c in range(len(names)):
            columns[f"p_{c}"] = [
                p if valid else None for p, valid in zip(rounded[:, c].tolist(), has_prediction, strict=True)
            ]
        columns["prediction_set"] = [
            s if valid else None
            for s, valid in zip(_format_prediction_sets(self.prediction_sets), has_prediction, strict=True)
        ]
        columns["is_ood"] = [
            bool(reason) if valid else None for reason, valid in zip(self.ood_reasons, has_prediction, strict=True)
        ]
        columns["ood_reasons"] = list(self.ood_reasons)
        columns["error"] = [self.errors.get(i, "") for i in range(len(self))]
        return columns


def _format_prediction_sets(sets: NDArray[np.bool_]) -> list[str]:
    """Return "0 6 7" for a row whose classes 0, 6 and 7 are in."""
    if not len(sets):
        return []
    unique_sets, inverse = np.unique(sets, axis=0, return_inverse=True)
    texts = [" ".join(map(str, np.flatnonzero(unique_set))) for unique_set in unique_sets]
    return [texts[i] for i in inverse.reshape(-1)]


def check_output_path(out: Path) -> None:
    """Raise UserError unless a table can be written to `out`."""
    if out.suffix.lower() not in TABLE_SUFFIXES:
        raise NephrosError(
            f"--out is {out}, but it must end in {', '.join(TABLE_SUFFIXES[:-1])} or {TABLE_SUFFIXES[-1]}."
        )
    if out.is_dir():
        raise NephrosError(f"--out {out} is a folder: name a file.")
    if out.suffix.lower() == ".parquet":
        _import_pyarrow()


def write_predictions(predictions: Predictions, out: Path) -> None:
    """Write the table in the format that the suffix of `out` names, all or nothing; JSON and Parquet hold the notes too."""
    suffix = out.suffix.lower()
    with atomic_write(out, "wb" if suffix == ".parquet" else "w") as file:
        if suffix == ".csv":
            write_csv(predictions, file)
        elif suffix == ".json":
            metadata = {"model": predictions.model, "class_names": predictions.class_names, "notes": predictions.notes}
            columns = predictions.to_columns()
            columns["prediction_set"] = [
                np.flatnonzero(row).tolist() if valid else None
                for row, valid in zip(predictions.prediction_sets, predictions.has_prediction.tolist(), strict=True)
            ]
            columns["error"] = [error or None for error in columns["error"]]
            rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
            file.write(json.dumps(metadata, ensure_ascii=False)[:-1] + ', "rows": [\n')
            file.write(",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]}\n")
        else:
            _write_parquet(predictions, file)


def write_csv(predictions: Predictions, file: IO[str]) -> None:
    """Write the table as CSV with a line of names (RFC 4180, but for line ends); true and false as those words."""
    writer = csv.writer(file, lineterminator="\n")
    columns = predictions.to_columns()
    columns["is_ood"] = [None if value is None else str(value).lower() for value in columns["is_ood"]]
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))


def _write_parquet(predictions: Predictions, file: IO[bytes]) -> None:
    pyarrow = _import_pyarrow()
    import pyarrow.parquet as parquet

    column_types = {"index": pyarrow.int64(), "label": pyarrow.int32(), "is_ood": pyarrow.bool_()}
    column_types |= {f"p_{c}": pyarrow.float32() for c in range(len(predictions.class_names))}
    columns = predictions.to_columns()
    arrays = {name: pyarrow.array(values, column_types.get(name, pyarrow.string())) for name, values in columns.items()}
    metadata = {"model": predictions.model, "class_names": predictions.class_names, "notes": predictions.notes}
    table = pyarrow.table(arrays).replace_schema_metadata({"nephros": json.dumps(metadata)})
    parquet.write_table(table, file)


def _import_pyarrow() -> Any:
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise NephrosError("Writing Parquet needs pyarrow: pip install 'nephros[parquet]'.") from None
    return pyarrow


def print_predictions(predictions: Predictions) -> None:
    """Print the first rows and how many cells each class has."""
    from rich.markup import escape
    from rich.table import Table

    from nephros.console import table_console

    console, columns, has_prediction = table_console(), predictions.to_columns(), predictions.has_prediction
    preview = Table("file", "index", "class", "probability", "prediction set", "unfamiliar")
    for i in range(min(MAX_CONSOLE_ROWS, len(predictions))):
        cells = ["", "", "", escape(printable_text(columns["error"][i]))]
        if has_prediction[i]:
            class_label = f"{columns['label'][i]} {columns['class_name'][i]}"
            cells = [
                class_label,
                f"{predictions.probabilities[i].max():.3f}",
                columns["prediction_set"][i],
                columns["ood_reasons"][i],
            ]
        preview.add_row(escape(printable_text(columns["file"][i])), str(columns["index"][i]), *cells)
    if len(predictions) > MAX_CONSOLE_ROWS:
        preview.caption = f"the first {MAX_CONSOLE_ROWS} of {len(predictions):,} rows; --out FILE writes all"
    console.print(preview)
    counts = Table("class", "cells", "share")
    labels = np.nan_to_num(predictions.probabilities, nan=-1).argmax(axis=1)[has_prediction]
    for c, count in enumerate(np.bincount(labels, minlength=len(predictions.class_names)).tolist()):
        counts.add_row(f"{c} {predictions.class_names[c]}", f"{count:,}", f"{count / max(len(labels), 1):.1%}")
    counts.add_row(
        "unfamiliar", f"{(n_ood := sum(map(bool, predictions.ood_reasons))):,}", f"{n_ood / max(len(labels), 1):.1%}"
    )
    console.print(counts)


def printable_text(text: str) -> str:
    """Return text without what a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)


def summary_lines(predictions: Predictions) -> Iterator[str]:
    """Yield what is to be said beside the table: the notes, and how many rows have no answer."""
    yield from (f"note: {printable_text(note)}" for note in predictions.notes)
    if predictions.errors:
        first_error = printable_text(next(iter(predictions.errors.values())))
        more = f" (and {len(predictions.errors) - 1:,} more)" if len(predictions.errors) > 1 else ""
        yield f"{len(predictions.errors):,} of {len(predictions):,} rows have no answer: {first_error}{more}"
