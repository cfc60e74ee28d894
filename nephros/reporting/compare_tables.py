"""A comparison as a table: on the terminal, as Markdown and as CSV."""

from __future__ import annotations

from rich.table import Table

from nephros.evaluation.comparison import Comparison
from nephros.evaluation.pairs import Pair
from nephros.evaluation.standing import Standing
from nephros.reporting.tabular import csv_of, markdown, shown
from nephros.terminal import table_console

COLUMNS = (
    "method",
    "accuracy",
    "low",
    "high",
    "auc",
    "macro_f1",
    "parameters",
    "multiply_adds",
    "training_minutes",
    "device",
    "checkpoint",
    "split",
    "input",
    "source",
)


def cells(row: Standing) -> list[str]:
    """Return a row's texts, one for each of COLUMNS; empty for what is not known."""
    whole = ["" if value is None else str(value) for value in (row.parameters, row.multiply_adds)]
    numbers = [shown(value) for value in (row.accuracy, row.low, row.high, row.auc, row.macro_f1)]
    words = [row.device, row.checkpoint, row.split, row.input, row.source]
    return [row.method, *numbers, *whole, shown(row.minutes, 1), *words]


def sentence(better: str, other: str, pair: Pair) -> str:
    """Return in words how two runs differ."""
    corrected = "" if pair.adjusted == pair.p else f", {pair.adjusted:.2g} corrected for the pairs tested (Holm)"
    apart = "more than chance explains" if pair.adjusted < 0.05 else "they may well be equally good"
    return (
        f"{better} less {other}: {100 * pair.difference:+.2f} points of accuracy (95 % interval {100 * pair.low:+.2f} to "
        f"{100 * pair.high:+.2f}, paired bootstrap); {pair.only_first:,} cells right by the first alone, "
        f"{pair.only_second:,} by the second alone, McNemar's exact p = {pair.p:.2g}{corrected}: {apart}"
    )


def to_markdown(comparison: Comparison) -> str:
    """Return the table with the paired tests and notes under it."""
    lines = [f"- {sentence(*found)}.\n" for found in comparison.pairs] + [f"- {note}\n" for note in comparison.notes]
    return (
        markdown(COLUMNS, [cells(row) for row in comparison.rows])
        + "\n"
        + "".join(lines)
        + f"\ndata: {comparison.title}\n"
    )


def to_csv(comparison: Comparison) -> str:
    """Return the table alone."""
    return csv_of(COLUMNS, [cells(row) for row in comparison.rows])


def show(comparison: Comparison) -> None:
    """Print the table with what fits a terminal, our runs in bold, then the paired tests and notes."""
    console = table_console()
    table = Table(title=f"{comparison.title}: runs on {comparison.split}")
    heads = ("method", "input", "accuracy", "95 %", "AUC", "macro F1", "parameters", "mult-adds", "minutes", "split")
    for head in heads:
        table.add_column(head, justify="left" if head in ("method", "input", "split") else "right")
    for row in comparison.rows:
        interval = "" if row.low is None or row.high is None else f"{row.low:.4f} to {row.high:.4f}"
        whole = ["" if value is None else f"{value:,}" for value in (row.parameters, row.multiply_adds)]
        figures = [shown(row.accuracy), interval, shown(row.auc), shown(row.macro_f1), *whole, shown(row.minutes, 1)]
        table.add_row(row.method, row.input, *figures, row.split, style="bold" if row.own else None)
    console.print(table)
    for found in comparison.pairs:
        print(sentence(*found))
    for note in comparison.notes:
        print(f"note: {note}")
