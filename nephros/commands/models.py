"""nephros models."""

from __future__ import annotations

from pathlib import Path

from nephros.commands.messages import print_path
from nephros.commands.parser import CommandParser

_SHOWN = ("name", "val accuracy", "test accuracy", "multiply-adds", "MB")
"""Columns that 80 characters have room for, and that a choice turns on."""


def models(argv: list[str]) -> int:
    """nephros models"""
    parser = CommandParser(
        "models",
        "List the models that come with nephros. --model takes their names, and so do --init and --teachers of `nephros train`.",
    )
    parser.option(
        "out",
        "write the table to this CSV file too, with more columns: accuracy in int8 and with test-time augmentation, "
        "macro F1, parameters and teachers",
        metavar="FILE",
    )
    out = parser.parse_argv(argv).get("out")
    from nephros.console import table_console
    from nephros.files import write_text
    from nephros.inference.model_table import HEADERS, NUMERIC, model_rows, models_csv
    from nephros.text_tables import terminal_table

    columns = [HEADERS.index(header) for header in _SHOWN]
    rows = [[row[column] for column in columns] for row in model_rows()]
    if out:
        write_text(Path(out).expanduser(), models_csv())
    title = "models (accuracy on TissueMNIST; multiply-adds per image)"
    table_console().print(terminal_table(title, _SHOWN, rows, numeric=NUMERIC))
    if out:
        print_path(Path(out).expanduser())
    return 0
