"""Tables of predictions as CSV, JSON and Parquet files."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from nephros.errors import InvalidArgument, require_extra
from nephros.escaping import escape_for_csv, may_need_csv_escape
from nephros.files import atomic_write, check_writable
from nephros.inference.nucleus_columns import POSITION_COLUMNS, nucleus_records
from nephros.inference.predictions import Predictions

TABLE_SUFFIXES = (".csv", ".json", ".parquet")


def check_output_path(out: Path) -> None:
    """Raise InvalidArgument unless a table can be written to `out`; MissingDependency for Parquet without pyarrow."""
    if out.suffix.lower() not in TABLE_SUFFIXES:
        suffixes = f"{', '.join(TABLE_SUFFIXES[:-1])} or {TABLE_SUFFIXES[-1]}"
        raise InvalidArgument("out", out, f"a file that ends in {suffixes}")
    if out.is_dir():
        raise InvalidArgument("out", out, "a file, not a folder")
    check_writable(out)
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
    write_csv_columns(predictions.to_columns(), file)


def write_csv_columns(columns: Mapping[str, Sequence[Any]], file: IO[str]) -> None:
    """Write columns by name as `write_csv` does."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([escape_for_csv(name) for name in columns])
    writer.writerows(zip(*map(_csv_cells, columns.values()), strict=True))


def _csv_cells(values: Sequence[Any]) -> Sequence[Any]:
    types = set(map(type, values))
    if types <= {float, int, type(None)}:
        return values
    if types <= {str} and len(distinct := set(values)) <= len(values) // 2:
        escaped = {text: escape_for_csv(text) for text in distinct}
        return [escaped[text] for text in values]
    if types <= {str} and not may_need_csv_escape(values):
        return values
    return [str(value).lower() if isinstance(value, bool) else escape_for_csv(value) for value in values]


def _write_json(predictions: Predictions, file: IO[str]) -> None:
    """Write one object with a row per line."""
    file.write(json.dumps(predictions.metadata(), ensure_ascii=False)[:-1] + ', "rows": [\n')
    rows = (
        json.dumps(row.to_columns(predictions.n_classes) | record, ensure_ascii=False)
        for row, record in zip(predictions.rows(), nucleus_records(predictions), strict=True)
    )
    file.write(",\n".join(rows) + "\n]}\n")


def _write_parquet(predictions: Predictions, file: IO[bytes]) -> None:
    write_parquet_columns(predictions.to_columns(), predictions.metadata(), file)


def write_parquet_columns(columns: Mapping[str, Sequence[Any]], metadata: Mapping[str, Any], file: IO[bytes]) -> None:
    """Write columns by name as Parquet, with metadata as JSON under the key ``nephros``; MissingDependency without pyarrow."""
    pyarrow = _import_pyarrow()
    import pyarrow.parquet as parquet

    integers, booleans = ("index", "id", "volume_voxels"), ("is_ood", "at_border")
    column_types = dict.fromkeys(integers, pyarrow.int64()) | dict.fromkeys(booleans, pyarrow.bool_())
    column_types |= dict.fromkeys((*POSITION_COLUMNS[:6], "volume_um3", "intensity_mean"), pyarrow.float64())
    column_types["label"] = pyarrow.int32()
    column_types |= {name: pyarrow.float32() for name in columns if name.startswith(("p_", "p["))}
    arrays = {name: pyarrow.array(values, column_types.get(name, pyarrow.string())) for name, values in columns.items()}
    table = pyarrow.table(arrays).replace_schema_metadata({"nephros": json.dumps(metadata)})
    parquet.write_table(table, file)


def _import_pyarrow() -> Any:
    with require_extra("Writing Parquet needs pyarrow: pip install 'nephros[parquet]'.", "pyarrow"):
        import pyarrow
    return pyarrow
