"""Predictions as a table: one row per cell, written as CSV, JSON or Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import InvalidArgument, require_extra
from nephros.escaping import escape_for_csv
from nephros.files import atomic_write
from nephros.inference.model_card import ModelCard
from nephros.inference.reader import CellSource

TABLE_SUFFIXES = (".csv", ".json", ".parquet")


@dataclass(frozen=True)
class PredictionRow:
    """The prediction for one cell, as plain values; None wherever there is only an error."""

    source: CellSource
    label: int | None = None
    class_name: str | None = None
    probabilities: list[float] | None = None
    """(classes,), rounded to six decimals."""
    prediction_set: list[int] | None = None
    is_ood: bool | None = None
    ood_reasons: Sequence[str] = ()
    error: str | None = None
    """One sentence on why there is no prediction."""

    def to_columns(self, n_classes: int) -> dict[str, Any]:
        """Return the row by column, with one column ``p_0``, ``p_1``, ... per class."""
        probabilities: Sequence[float | None] = self.probabilities or [None] * n_classes
        return {
            "file": self.source.file,
            "index": self.source.index,
            "split": self.source.split,
            "label": self.label,
            "class_name": self.class_name,
            **{f"p_{c}": p for c, p in enumerate(probabilities)},
            "prediction_set": self.prediction_set,
            "is_ood": self.is_ood,
            "ood_reasons": list(self.ood_reasons),
            "error": self.error,
        }


def prediction_rows(
    sources: Sequence[CellSource],
    probabilities: NDArray[np.float32],
    prediction_sets: NDArray[np.bool_],
    ood_reasons: Sequence[Sequence[str]],
    class_names: Sequence[str],
) -> list[PredictionRow]:
    """Return the rows of n predicted cells, given (n, classes) probabilities and whether each class is in the set."""
    labels = probabilities.argmax(axis=1).tolist()
    rounded = np.round(probabilities.astype(np.float64), 6).tolist()
    return [
        PredictionRow(
            source,
            label,
            class_names[label],
            row_probabilities,
            np.flatnonzero(in_set).tolist(),
            bool(reasons),
            reasons,
        )
        for source, label, row_probabilities, in_set, reasons in zip(
            sources, labels, rounded, prediction_sets, ood_reasons, strict=True
        )
    ]


@dataclass(frozen=True)
class ModelSummary:
    """Which model made the predictions."""

    recipe: str
    data: str
    """Title of the data that it was trained on."""
    nephros_version: str
    tta_views: int
    precision: str
    weights_sha256: str

    @classmethod
    def from_card(cls, card: ModelCard) -> ModelSummary:
        """Return the summary of a model card."""
        network = card["network"]
        return cls(
            card["recipe"],
            card["data"]["title"],
            card["nephros_version"],
            network["tta_views"],
            network["precision"],
            network["weights_sha256"],
        )


@dataclass(frozen=True)
class Predictions:
    """One row per cell, in the order in which the inputs were named, and one per input that could not be read."""

    sources: list[CellSource]
    probabilities: NDArray[np.float32]
    """(n, classes); NaN for rows without a prediction."""
    prediction_sets: NDArray[np.bool_]
    """(n, classes), whether a class is in the prediction set."""
    ood_reasons: list[tuple[str, ...]]
    """In which ways each cell is out of distribution; empty if it is not."""
    errors: dict[int, str]
    """Row -> why it has no prediction, as one sentence."""
    class_names: tuple[str, ...]
    notes: list[str]
    """How the images were converted and how to read the prediction sets; one sentence each."""
    model: ModelSummary

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def has_prediction(self) -> NDArray[np.bool_]:
        """(n,), whether a row has a prediction."""
        mask = np.ones(len(self), dtype=np.bool_)
        mask[list(self.errors)] = False
        return mask

    def rows(self) -> Iterator[PredictionRow]:
        """Yield the table row by row."""
        indices = np.flatnonzero(self.has_prediction)
        predicted = iter(
            prediction_rows(
                [self.sources[i] for i in indices],
                self.probabilities[indices],
                self.prediction_sets[indices],
                [self.ood_reasons[i] for i in indices],
                self.class_names,
            )
        )
        for i, source in enumerate(self.sources):
            yield PredictionRow(source, error=self.errors[i]) if i in self.errors else next(predicted)

    def to_columns(self) -> dict[str, list[Any]]:
        """Return the table by column, as CSV and Parquet hold it: sets as "0 6 7", reasons joined by "; "."""
        columns: dict[str, list[Any]] = {
            name: [] for name in PredictionRow(CellSource("", 0)).to_columns(self.n_classes)
        }
        for row in self.rows():
            for name, value in row.to_columns(self.n_classes).items():
                columns[name].append(value)
        columns["prediction_set"] = [
            None if labels is None else " ".join(map(str, labels)) for labels in columns["prediction_set"]
        ]
        columns["ood_reasons"] = ["; ".join(reasons) for reasons in columns["ood_reasons"]]
        columns["error"] = [error or "" for error in columns["error"]]
        return columns

    @property
    def n_classes(self) -> int:
        """Number of the model's classes."""
        return len(self.class_names)

    def metadata(self) -> dict[str, Any]:
        """Return what JSON and Parquet files hold beside the rows: model, class names and notes."""
        return {"model": asdict(self.model), "class_names": self.class_names, "notes": self.notes}


def check_output_path(out: Path) -> None:
    """Raise InvalidArgument unless a table can be written to `out`; MissingDependency for Parquet without pyarrow."""
    if out.suffix.lower() not in TABLE_SUFFIXES:
        suffixes = f"{', '.join(TABLE_SUFFIXES[:-1])} or {TABLE_SUFFIXES[-1]}"
        raise InvalidArgument("out", out, f"a file that ends in {suffixes}")
    if out.is_dir():
        raise InvalidArgument("out", out, "a file, not a folder")
    if out.suffix.lower() == ".parquet":
        _import_pyarrow()


def write_predictions(predictions: Predictions, out: Path) -> None:
    """Write the table in the format that the suffix of `out` names, all or nothing; JSON and Parquet include the notes."""
    suffix = out.suffix.lower()
    with atomic_write(out, "wb" if suffix == ".parquet" else "w") as file:
        if suffix == ".csv":
            write_csv(predictions, file)
        elif suffix == ".json":
            _write_json(predictions, file)
        else:
            _write_parquet(predictions, file)


def write_csv(predictions: Predictions, file: IO[str]) -> None:
    """Write the table as CSV with a header (RFC 4180, except that lines end in a newline); booleans as true and false.

    Text that a spreadsheet would take for a formula begins with an apostrophe (`nephros.escaping.escape_for_csv`).
    """
    writer = csv.writer(file, lineterminator="\n")
    columns = predictions.to_columns()
    columns["is_ood"] = [None if value is None else str(value).lower() for value in columns["is_ood"]]
    writer.writerow(columns)
    for name in ("file", "split", "class_name", "ood_reasons", "error"):
        columns[name] = [escape_for_csv(value) for value in columns[name]]
    writer.writerows(zip(*columns.values(), strict=True))


def _write_json(predictions: Predictions, file: IO[str]) -> None:
    """Write one object with a row per line."""
    file.write(json.dumps(predictions.metadata(), ensure_ascii=False)[:-1] + ', "rows": [\n')
    rows = (json.dumps(row.to_columns(predictions.n_classes), ensure_ascii=False) for row in predictions.rows())
    file.write(",\n".join(rows) + "\n]}\n")


def _write_parquet(predictions: Predictions, file: IO[bytes]) -> None:
    pyarrow = _import_pyarrow()
    import pyarrow.parquet as parquet

    column_types = {"index": pyarrow.int64(), "label": pyarrow.int32(), "is_ood": pyarrow.bool_()}
    column_types |= {f"p_{c}": pyarrow.float32() for c in range(predictions.n_classes)}
    columns = predictions.to_columns()
    arrays = {name: pyarrow.array(values, column_types.get(name, pyarrow.string())) for name, values in columns.items()}
    table = pyarrow.table(arrays).replace_schema_metadata({"nephros": json.dumps(predictions.metadata())})
    parquet.write_table(table, file)


def _import_pyarrow() -> Any:
    with require_extra("Writing Parquet needs pyarrow: pip install 'nephros[parquet]'.", "pyarrow"):
        import pyarrow
    return pyarrow
