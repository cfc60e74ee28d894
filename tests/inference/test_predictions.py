"""The table of predictions: rows as plain values, columns as text, and the same content in every file format."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest

from nephros.errors import InvalidArgument
from nephros.inference.prediction_files import check_output_path
from nephros.inference.predictions import ModelSummary, PredictionRow, Predictions, prediction_rows
from nephros.inference.reader import CellSource

SOURCES = [CellSource("a.png", 0), CellSource("bad.png", 0), CellSource("c.npz", 3, "val")]


@pytest.fixture
def predictions() -> Predictions:
    """Two cells of three classes, the second out of distribution, and an unreadable file between them."""
    return Predictions(
        sources=SOURCES,
        probabilities=np.array([[0.7, 0.2, 0.1], [np.nan] * 3, [0.0, 0.25, 0.75]], dtype=np.float32),
        prediction_sets=np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], dtype=np.bool_),
        ood_reasons=[(), (), ("too dark", "too smooth")],
        errors={1: "bad.png is damaged."},
        class_names=("x", "y", "z"),
        notes=["a note"],
        model=ModelSummary("nephros", "squares", "0.1.0", 5, "float32", "abc"),
    )


def test_rows_are_plain_values_or_an_error(predictions: Predictions) -> None:
    first, broken, last = predictions.rows()
    assert first == PredictionRow(SOURCES[0], 0, "x", [0.7, 0.2, 0.1], [0, 1], False, ())
    assert broken == PredictionRow(SOURCES[1], error="bad.png is damaged.")
    assert (last.label, last.prediction_set, last.is_ood) == (2, [2], True)
    assert last.ood_reasons == ("too dark", "too smooth")
    assert json.dumps(last.to_columns(3))  # nothing of NumPy


def test_probabilities_are_rounded_to_six_decimals() -> None:
    p = np.array([[0.12345678, 0.87654322]], dtype=np.float32)
    (row,) = prediction_rows([SOURCES[0]], p, p > 0.5, [()], ("x", "y"))
    assert row.probabilities == [0.123457, 0.876543]


def test_columns_hold_sets_and_reasons_as_text(predictions: Predictions) -> None:
    columns = predictions.to_columns()
    assert list(columns) == [
        "file", "index", "split", "label", "class_name", "p_0", "p_1", "p_2",
        "prediction_set", "is_ood", "ood_reasons", "error",
    ]  # fmt: skip
    assert columns["label"] == [0, None, 2]
    assert columns["prediction_set"] == ["0 1", None, "2"]
    assert columns["ood_reasons"] == ["", "", "too dark; too smooth"]
    assert columns["is_ood"] == [False, None, True]
    assert columns["error"] == ["", "bad.png is damaged.", ""]


def read_json(path: Path) -> list[dict[str, Any]]:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["model"]["tta_views"] == 5
    assert document["class_names"] == ["x", "y", "z"]
    assert document["notes"] == ["a note"]
    return list(document["rows"])


def test_json_holds_lists_and_metadata(predictions: Predictions, tmp_path: Path) -> None:
    predictions.save(tmp_path / "p.json")
    first, broken, last = read_json(tmp_path / "p.json")
    assert first["prediction_set"] == [0, 1]
    assert (broken["label"], broken["prediction_set"], broken["error"]) == (None, None, "bad.png is damaged.")
    assert last["ood_reasons"] == ["too dark", "too smooth"]
    assert last["error"] is None


def test_csv_and_parquet_hold_the_same_text(predictions: Predictions, tmp_path: Path) -> None:
    for suffix in (".csv", ".parquet"):
        predictions.save(tmp_path / f"p{suffix}")
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        csv_rows = list(csv.DictReader(file))
    table = parquet.read_table(tmp_path / "p.parquet")
    parquet_rows = table.to_pylist()
    for name in ("file", "split", "prediction_set", "ood_reasons", "error"):
        assert [row[name] for row in csv_rows] == [row[name] or "" for row in parquet_rows]
    assert [row["is_ood"] for row in csv_rows] == ["false", "", "true"]
    assert [row["is_ood"] for row in parquet_rows] == [False, None, True]
    assert str(table.schema.field("p_0").type) == "float"
    assert json.loads(table.schema.metadata[b"nephros"])["notes"] == ["a note"]


@pytest.mark.parametrize("name", ["p.xlsx", "p", "folder.csv"])
def test_output_paths_must_name_a_table_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InvalidArgument) as caught:
        check_output_path(tmp_path / name)
    assert caught.value.parameter == "out"
    assert caught.value.value == tmp_path / name


def test_columns_hold_what_the_rows_say(predictions: Predictions) -> None:
    """Columns are made for all rows at once, rows one by one."""
    columns = predictions.to_columns()
    for row, prediction in enumerate(predictions):
        expected = prediction.to_columns(predictions.n_classes)
        in_set = expected["prediction_set"]
        expected["prediction_set"] = None if in_set is None else " ".join(map(str, in_set))
        expected["ood_reasons"] = "; ".join(expected["ood_reasons"])
        expected["error"] = expected["error"] or ""
        assert {name: values[row] for name, values in columns.items()} == expected
    assert columns["label"].count(None) == len(predictions.errors) > 0


def test_a_table_without_rows_has_its_columns() -> None:
    empty = np.empty((0, 2))
    model = ModelSummary("nephros", "squares", "0.1.0", 1, "float32", "abc")
    predictions = Predictions([], empty.astype(np.float32), empty.astype(np.bool_), [], {}, ("x", "y"), [], model)
    assert list(predictions.rows()) == []
    assert set(map(len, predictions.to_columns().values())) == {0}
