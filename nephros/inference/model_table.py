"""The bundled models as a table: what each one scores and costs, as its card has it."""

from __future__ import annotations

from collections import Counter

from nephros.inference.bundled import bundled_file, bundled_float32_file, bundled_names
from nephros.inference.card_json import card_from_json
from nephros.inference.model_card import CARD_METADATA_KEY, ModelCard
from nephros.inference.model_names import bundled_card
from nephros.inference.onnx_file import read_metadata
from nephros.text_tables import csv_table, format_number

NUMERIC = (
    "val accuracy",
    "val int8",
    "val tta",
    "test accuracy",
    "test tta",
    "test macro F1",
    "parameters",
    "multiply-adds",
    "MB",
)
HEADERS = ("name", *NUMERIC, "distilled from")


def model_rows(thousands: str = ",") -> list[list[str]]:
    """Return a row per bundled model, the default first, in the columns of `HEADERS`; `thousands` separates digits of counts.

    Accuracies are those of the image alone in float32, those of int8, and those with test-time augmentation (tta). Raises
    FileError when a card is missing or damaged.
    """
    return [_row(name, bundled_card(name), thousands) for name in bundled_names()]


def models_csv(**columns: dict[str, str]) -> str:
    """Return the table as CSV: numbers without separators, `columns` (name -> text by model) at the end."""
    headers = [header.replace(" ", "_") for header in HEADERS]
    rows = [[*row, *(texts.get(row[0], "") for texts in columns.values())] for row in model_rows(thousands="")]
    return csv_table((*headers, *columns), rows)


def _row(name: str, card: ModelCard, thousands: str) -> list[str]:
    network, test, tta = card["network"], card["test"], card.get("tta")
    int8, teachers = _int8_card(name), Counter(teacher["recipe"] for teacher in card["teachers"])
    return [
        name,
        format_number(card["validation"]["accuracy"]),
        format_number(int8["validation"]["accuracy"] if int8 else None),
        format_number(tta["validation"]["accuracy"] if tta else None),
        format_number(test["accuracy"] if test else None),
        format_number(tta["test_accuracy"] if tta else None),
        format_number(test["macro_f1"] if test else None),
        f"{network['parameters']:{thousands}}",
        f"{network['multiply_adds_per_view'] * network['tta_views']:{thousands}}",
        format_number(bundled_float32_file(name).stat().st_size / 1e6, 1),
        ", ".join(f"{n} x {recipe}" if n > 1 else recipe for recipe, n in teachers.items()),
    ]


def _int8_card(name: str) -> ModelCard | None:
    file = bundled_file("card.json", name).with_name("model-int8.onnx")
    return card_from_json(read_metadata(file.read_bytes()).get(CARD_METADATA_KEY), file) if file.is_file() else None
