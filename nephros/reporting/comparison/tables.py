"""A comparison as a table: on the terminal, as Markdown and as CSV."""

from __future__ import annotations

from rich.table import Table

from nephros.console import table_console
from nephros.evaluation.comparison import Comparison
from nephros.evaluation.leaderboard import Standing
from nephros.evaluation.significance import Pair
from nephros.text_tables import csv_of, markdown, shown

COLUMNS = (
    "method",
    "accuracy",
    "low",
    "high",
    "interval",
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
LEAST_P = 1e-300
"""Smaller ones are said to be below it: they are no longer told from 0 in double precision."""
WIDE = 190
"""Columns of a terminal from which the table also says what runs cost."""


def cells(row: Standing) -> list[str]:
    """Return a row's texts, one for each of COLUMNS; empty for what is not known."""
    whole = ["" if value is None else str(value) for value in (row.parameters, row.multiply_adds)]
    ends, others = (row.accuracy, row.low, row.high), (row.auc, row.macro_f1)
    words = [row.device, row.checkpoint, row.split, row.input, row.source]
    return [row.method, *map(shown, ends), row.interval, *map(shown, others), *whole, shown(row.minutes, 1), *words]


def sentence(better: str, other: str, pair: Pair) -> str:
    """Return in words how two runs differ."""
    corrected = (
        ""
        if pair.adjusted == pair.p
        else f", {_chance(pair.adjusted).removeprefix('= ')} corrected for the pairs tested (Holm)"
    )
    apart = "more than chance explains" if pair.adjusted < 0.05 else "they may well be equally good"
    return (
        f"{better} less {other}: {100 * pair.difference:+.2f} points of accuracy (95 % interval {100 * pair.low:+.2f} to "
        f"{100 * pair.high:+.2f}, paired bootstrap); {pair.only_first:,} cells right by the first alone, "
        f"{pair.only_second:,} by the second alone, McNemar's exact p {_chance(pair.p)}{corrected}: {apart}"
    )


def _chance(p: float) -> str:
    return f"= {p:.2g}" if p >= LEAST_P else f"< {LEAST_P:g}"


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
    """Print the table, our runs in bold, then the sources, the paired tests and notes.

    A narrow terminal has what the runs cost, and the weights that were kept, in lines under the table.
    """
    console = table_console()
    wide = console.width >= WIDE
    console.print(_table(comparison, wide))
    for row in comparison.rows:
        if row.own and not wide:
            print(_cost(row))
    for source in dict.fromkeys((row.source, row.address) for row in comparison.rows):
        of = [f"{row.method} ({row.input})" for row in comparison.rows if (row.source, row.address) == source]
        print(f"source of {'; '.join(of)}: {' '.join(filter(None, source))}")
    for found in comparison.pairs:
        print(sentence(*found))
    for note in comparison.notes:
        print(f"note: {note}")


def _table(comparison: Comparison, wide: bool) -> Table:
    table = Table(title=f"{comparison.title}: runs on {comparison.split}")
    costs = ("parameters", "mult-adds", "minutes", "device", "checkpoint") if wide else ()
    for head in ("method", "input", "accuracy", "interval", "AUC", "macro\nF1", *costs, "split"):
        words = head in ("method", "input", "device", "checkpoint", "split")
        narrowest = None if wide else {"input": 11, "split": 8}.get(head)  # what is left is the method's
        table.add_column(
            head, justify="left" if words else "right", no_wrap=not words, overflow="fold", max_width=narrowest
        )
    for row in comparison.rows:
        ends = "" if row.low is None else f"{shown(row.low)} to {shown(row.high)} ({row.interval})"
        figures = [shown(row.accuracy), ends, shown(row.auc), shown(row.macro_f1)]
        cost = [*_whole(row), shown(row.minutes, 1), row.device, row.checkpoint] if wide else []
        table.add_row(row.method, row.input, *figures, *cost, row.split, style="bold" if row.own else None)
    return table


def _whole(row: Standing) -> list[str]:
    return ["" if value is None else f"{value:,}" for value in (row.parameters, row.multiply_adds)]


def _cost(row: Standing) -> str:
    parameters, multiply_adds = _whole(row)
    minutes = "" if row.minutes is None else f"{shown(row.minutes, 1)} minutes "
    return (
        f"{row.method}: {parameters} parameters, {multiply_adds} multiply-adds, trained {minutes}on {row.device}, weights: "
        f"{row.checkpoint}"
    )
