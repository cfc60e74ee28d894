"""Tables of predictions as CSV, JSON and Parquet files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import IO, Any

from nephros.errors import InvalidArgument, require_extra
from nephros.escaping import escape_for_csv
from nephros.files import atomic_write
from nephros.inference.predictions import Predictions

TABLE_SUFFIXES = (".csv", ".json", ".parquet")


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
