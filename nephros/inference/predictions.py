"""Predictions as a table: one row per cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from nephros.data_frames import to_data_frame
from nephros.inference.model_card import ModelCard
from nephros.inference.nucleus_columns import POSITION_COLUMNS, cell_columns, nucleus_records
from nephros.inference.reader import CellSource
from nephros.text_tables import html_table, pluralize

if TYPE_CHECKING:
    from pandas import DataFrame

    from nephros.microscopy.located import LocatedNuclei

_HTML_ROWS = 10
"""Rows that a notebook shows."""


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


@dataclass(frozen=True, repr=False)
class Predictions:
    """One row per cell, in the order in which the inputs were named, and one per input that could not be read.

    ``predictions[3]`` is a `PredictionRow`; a slice, mask or array of indices gives the Predictions of some rows.
    """

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
    located: tuple[LocatedNuclei, ...] = ()
    """Where the nuclei are, for each stack among the inputs."""

    def __len__(self) -> int:
        return len(self.sources)

    @overload
    def __getitem__(self, rows: int) -> PredictionRow: ...
    @overload
    def __getitem__(self, rows: slice | Sequence[int] | NDArray[Any]) -> Predictions: ...

    def __getitem__(self, rows: int | slice | Sequence[int] | NDArray[Any]) -> PredictionRow | Predictions:
        indices = np.arange(len(self))[rows]
        if indices.ndim == 0:
            return next(self[[int(indices)]].rows())
        kept = indices.tolist()
        return replace(
            self,
            sources=[self.sources[i] for i in kept],
            probabilities=self.probabilities[indices],
            prediction_sets=self.prediction_sets[indices],
            ood_reasons=[self.ood_reasons[i] for i in kept],
            errors={row: self.errors[i] for row, i in enumerate(kept) if i in self.errors},
        )

    def __iter__(self) -> Iterator[PredictionRow]:
        return self.rows()

    def __repr__(self) -> str:
        return f"<Predictions: {self._summary()}>"

    def _repr_html_(self) -> str:
        """Return the first rows as a table, for notebooks."""
        headers = ("file", "index", "class", "probability", "prediction set", "out of distribution")
        table_rows = []
        for row in self[:_HTML_ROWS].rows():
            cells = [row.error or "", "", "", ""]
            if row.probabilities is not None:
                names = ", ".join(self.class_names[label] for label in row.prediction_set or [])
                probability = f"{max(row.probabilities):.3f}"
                cells = [row.class_name or "", probability, names, "; ".join(row.ood_reasons)]
            table_rows.append((row.source.file, str(row.source.index), *cells))
        more = [f"first {_HTML_ROWS} of {len(self):,} rows"] if len(self) > _HTML_ROWS else []
        return html_table(f"Predictions: {self._summary()}", headers, table_rows, [*more, *self.notes])

    def _summary(self) -> str:
        """Return the number of cells, classes, flags and errors in words."""
        text = f"{pluralize(len(self), 'cell')}, {len(self.class_names)} classes, {self.is_ood.sum():,} out of distribution"
        return text + (f", {len(self.errors):,} without a prediction" if self.errors else "")

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) int64, the most probable class of each row; -1 for rows without a prediction."""
        probabilities = np.where(self.has_prediction[:, None], self.probabilities, 0)
        return np.where(self.has_prediction, probabilities.argmax(axis=1), -1)

    @property
    def is_ood(self) -> NDArray[np.bool_]:
        """(n,) bool, whether a cell is out of distribution, that is, unlike the cells that the model was trained on."""
        return np.array([bool(reasons) for reasons in self.ood_reasons], dtype=np.bool_)

    def to_pandas(self) -> DataFrame:
        """Return the table as a DataFrame with the columns of the CSV file; MissingDependency without pandas.

        Where all rows are nuclei of stacks, the columns are those of `nephros.inference.nucleus_columns.cell_columns`.
        """
        return to_data_frame(cell_columns(self) if self.are_nuclei_of_stacks else self.to_columns())

    @property
    def are_nuclei_of_stacks(self) -> bool:
        """Whether every row with a prediction is a nucleus of a stack, and there is one."""
        stacks = {located.display_path for located in self.located}
        return bool(stacks) and all(
            source.file in stacks or row in self.errors for row, source in enumerate(self.sources)
        )

    def save(self, path: str | Path) -> Path:
        """Write the table as .csv, .json or .parquet, all or nothing, and return its path; JSON and Parquet include the notes.

        Raises InvalidArgument for another suffix or a folder, and MissingDependency for Parquet without pyarrow.
        """
        from nephros.inference.prediction_files import check_output_path, write_predictions

        out = Path(path).expanduser()
        check_output_path(out)
        write_predictions(self, out)
        return out

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
        """Return the table by column, as CSV and Parquet hold it: sets as "0 6 7", reasons joined by "; ".

        Nuclei of stacks have further columns on where they are.
        """
        has_prediction, labels = self.has_prediction.tolist(), self.labels.tolist()
        probabilities = np.round(self.probabilities.astype(np.float64), 6)
        columns: dict[str, list[Any]] = {
            "file": [source.file for source in self.sources],
            "index": [source.index for source in self.sources],
            "split": [source.split for source in self.sources],
            "label": [None if label < 0 else label for label in labels],
            "class_name": [None if label < 0 else self.class_names[label] for label in labels],
        }
        for label, column in enumerate(probabilities.T.tolist()):
            columns[f"p_{label}"] = _where(has_prediction, column)
        columns |= {
            "prediction_set": _where(has_prediction, _set_texts(self.prediction_sets)),
            "is_ood": _where(has_prediction, [bool(reasons) for reasons in self.ood_reasons]),
            "ood_reasons": [
                "; ".join(reasons) if ok else "" for ok, reasons in zip(has_prediction, self.ood_reasons, strict=True)
            ],
            "error": [self.errors.get(row, "") for row in range(len(self))],
        }
        if self.located:
            records = nucleus_records(self)
            columns |= {name: [record.get(name) for record in records] for name in ("id", *POSITION_COLUMNS)}
        return columns

    @property
    def n_classes(self) -> int:
        """Number of the model's classes."""
        return len(self.class_names)

    def metadata(self) -> dict[str, Any]:
        """Return what JSON and Parquet files hold beside the rows: model, class names and notes."""
        return {"model": asdict(self.model), "class_names": self.class_names, "notes": self.notes}


def _where(conditions: list[bool], values: list[Any]) -> list[Any]:
    """Return the values, with None where a condition does not hold."""
    if all(conditions):
        return values
    return [value if condition else None for value, condition in zip(values, conditions, strict=True)]


def _set_texts(prediction_sets: NDArray[np.bool_]) -> list[str]:
    """Return (n, classes) prediction sets as text, such as "0 6 7"; most of many sets are alike."""
    texts: dict[bytes, str] = {}
    result = []
    for in_set in prediction_sets:
        key = in_set.tobytes()
        if key not in texts:
            texts[key] = " ".join(map(str, np.flatnonzero(in_set).tolist()))
        result.append(texts[key])
    return result
