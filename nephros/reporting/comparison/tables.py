"""A comparison as a table: on the terminal, as Markdown and as CSV."""

from __future__ import annotations

from rich.table import Table

from nephros.console import table_console
from nephros.evaluation.comparison import Comparison
from nephros.evaluation.leaderboard import LeaderboardRow
from nephros.evaluation.significance import PairedComparison
from nephros.text_tables import csv_table, format_number, markdown_table

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
MIN_P = 1e-300
"""Smaller ones are said to be below it: they are no longer told from 0 in double precision."""
WIDE_TERMINAL = 190
"""Columns of a terminal from which the table also says what runs cost."""


def to_cells(row: LeaderboardRow) -> list[str]:
    """Return a row's texts, one for each of COLUMNS; empty for what is not known."""
    counts = ["" if value is None else str(value) for value in (row.parameters, row.multiply_adds)]
    accuracies, other_metrics = (row.accuracy, row.low, row.high), (row.auc, row.macro_f1)
    labels = [row.device, row.checkpoint, row.split, row.input, row.source]
    return [
        row.method,
        *map(format_number, accuracies),
        row.interval,
        *map(format_number, other_metrics),
        *counts,
        format_number(row.training_minutes, 1),
        *labels,
    ]


def describe_paired_test(better: str, other: str, test: PairedComparison) -> str:
    """Return in words how two runs differ."""
    corrected = (
        ""
        if test.p_holm == test.p_value
        else f", {_format_p(test.p_holm).removeprefix('= ')} corrected for the pairs tested (Holm)"
    )
    verdict = "more than chance explains" if test.p_holm < 0.05 else "they may well be equally good"
    return (
        f"{better} less {other}: {100 * test.difference:+.2f} points of accuracy (95 % interval {100 * test.low:+.2f} to "
        f"{100 * test.high:+.2f}, paired bootstrap); {test.n_first_only:,} cells right by the first alone, "
        f"{test.n_second_only:,} by the second alone, McNemar's exact p {_format_p(test.p_value)}{corrected}: {verdict}"
    )


def _format_p(p: float) -> str:
    return f"= {p:.2g}" if p >= MIN_P else f"< {MIN_P:g}"


def to_markdown(comparison: Comparison) -> str:
    """Return the table with the paired tests and notes under it."""
    lines = [f"- {describe_paired_test(*test)}.\n" for test in comparison.paired_tests] + [
        f"- {note}\n" for note in comparison.notes
    ]
    return (
        markdown_table(COLUMNS, [to_cells(row) for row in comparison.rows])
        + "\n"
        + "".join(lines)
        + f"\ndata: {comparison.title}\n"
    )


def to_csv(comparison: Comparison) -> str:
    """Return the table alone."""
    return csv_table(COLUMNS, [to_cells(row) for row in comparison.rows])


def print_comparison(comparison: Comparison) -> None:
    """Print the table, our runs in bold, then the sources, the paired tests and notes.

    A narrow terminal has what the runs cost, and the weights that were kept, in lines under the table.
    """
    console = table_console()
    wide = console.width >= WIDE_TERMINAL
    console.print(_table(comparison, wide))
    for row in comparison.rows:
        if row.is_run and not wide:
            print(_cost_line(row))
    for source in dict.fromkeys((row.source, row.url) for row in comparison.rows):
        methods = [f"{row.method} ({row.input})" for row in comparison.rows if (row.source, row.url) == source]
        print(f"source of {'; '.join(methods)}: {' '.join(filter(None, source))}")
    for test in comparison.paired_tests:
        print(describe_paired_test(*test))
    for note in comparison.notes:
        print(f"note: {note}")


def _table(comparison: Comparison, wide: bool) -> Table:
    table = Table(title=f"{comparison.title}: runs on {comparison.split}")
    costs = ("parameters", "mult-adds", "minutes", "device", "checkpoint") if wide else ()
    for header in ("method", "input", "accuracy", "interval", "AUC", "macro\nF1", *costs, "split"):
        is_text = header in ("method", "input", "device", "checkpoint", "split")
        max_width = None if wide else {"input": 11, "split": 8}.get(header)  # what is left is the method's
        table.add_column(
            header, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold", max_width=max_width
        )
    for row in comparison.rows:
        interval = "" if row.low is None else f"{format_number(row.low)} to {format_number(row.high)} ({row.interval})"
        metrics = [format_number(row.accuracy), interval, format_number(row.auc), format_number(row.macro_f1)]
        cost = (
            [*_format_counts(row), format_number(row.training_minutes, 1), row.device, row.checkpoint] if wide else []
        )
        table.add_row(row.method, row.input, *metrics, *cost, row.split, style="bold" if row.is_run else None)
    return table


def _format_counts(row: LeaderboardRow) -> list[str]:
    return ["" if value is None else f"{value:,}" for value in (row.parameters, row.multiply_adds)]


def _cost_line(row: LeaderboardRow) -> str:
    parameters, multiply_adds = _format_counts(row)
    minutes = "" if row.training_minutes is None else f"{format_number(row.training_minutes, 1)} minutes "
    return (
        f"{row.method}: {parameters} parameters, {multiply_adds} multiply-adds, trained {minutes}on {row.device}, weights: "
        f"{row.checkpoint}"
    )
