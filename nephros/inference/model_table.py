"""The bundled models as a table: what each one scores and costs, as its card has it."""

from __future__ import annotations

from nephros.inference.bundled import bundled_file, bundled_names
from nephros.inference.model_card import ModelCard
from nephros.inference.model_names import bundled_card
from nephros.text_tables import csv_table, format_number

NUMERIC = (
    "val accuracy",
    "test accuracy",
    "test macro F1",
    "parameters",
    "views",
    "multiply-adds",
    "MB",
)
HEADERS = ("name", *NUMERIC, "distilled from")


def model_rows(thousands: str = ",") -> list[list[str]]:
    """Return a row per bundled model, the default first, in the columns of `HEADERS`; `thousands` separates digits of counts.

    The test figures are those of the run with its own number of views, which may differ from the model's. Raises FileError when
    a card is missing or damaged.
    """
    return [_row(name, bundled_card(name), thousands) for name in bundled_names()]


def models_csv(**columns: dict[str, str]) -> str:
    """Return the table as CSV: numbers without separators, `columns` (name -> text by model) at the end."""
    headers = [header.replace(" ", "_") for header in HEADERS]
    rows = [[*row, *(texts.get(row[0], "") for texts in columns.values())] for row in model_rows(thousands="")]
    return csv_table((*headers, *columns), rows)


def _row(name: str, card: ModelCard, thousands: str) -> list[str]:
    network, test = card["network"], card["test"]
    return [
        name,
        format_number(card["validation"]["accuracy"]),
        format_number(test["accuracy"] if test else None),
        format_number(test["macro_f1"] if test else None),
        f"{network['parameters']:{thousands}}",
        str(network["tta_views"]),
        f"{network['multiply_adds_per_view'] * network['tta_views']:{thousands}}",
        format_number(bundled_file("model.onnx", name).stat().st_size / 1e6, 1),
        ", ".join(teacher["recipe"] for teacher in card["teachers"]),
    ]
