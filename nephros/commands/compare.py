"""nephros compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nephros.commands.messages import print_line, print_path
from nephros.commands.parser import CommandParser

if TYPE_CHECKING:
    from rich.table import Table

    from nephros.evaluation.leaderboard import Comparison, DatasetComparison, LeaderboardRow

WIDE_TERMINAL = 190
"""Columns of a terminal from which the table includes costs."""


def compare(argv: list[str]) -> int:
    """nephros compare"""
    parser = CommandParser(
        "compare",
        "Compare runs with one another and, for TissueMNIST, with published results, in one table per data set.\n\n"
        "The best run of each table is tested against the other runs on the same images: by McNemar's exact test, and by a "
        "paired bootstrap interval of the difference in accuracy.",
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folders written by `nephros train` or `nephros finetune`"
    )
    parser.option("split", "test or val (default: test if every run has been evaluated on it, else val)")
    parser.option(
        "out", "also write compare.md, compare.csv and compare.html, with a chart, to this folder", metavar="DIR"
    )
    parser.flag("no-published", "leave out the published results")
    parser.flag("ensemble", "add a row for the mean of all runs' probabilities")
    args = parser.parse_argv(argv)
    from nephros.reporting.comparison.page import write_comparison
    from nephros.workflows.compare import compare as compare_runs

    published, ensemble = not args.get("no_published", False), args.get("ensemble", False)
    comparison = compare_runs(args["runs"], args.get("split"), published=published, ensemble=ensemble)
    _print_comparison(comparison)
    if "out" in args:
        for path in write_comparison(comparison, Path(args["out"]).expanduser()):
            print_path(path)
    return 0


def _print_comparison(comparison: Comparison) -> None:
    """Print a table per data set with its sources and paired tests, then notes."""
    for dataset in comparison.datasets:
        _print_dataset(dataset, comparison.split)
    for note in comparison.notes:
        print_line(f"note: {note}")


def _print_dataset(dataset: DatasetComparison, split: str) -> None:
    """Print the table with runs in bold, then sources and paired tests; on a narrow terminal also costs."""
    from nephros.console import table_console
    from nephros.reporting.comparison.page import describe_paired_test

    console = table_console()
    wide = console.width >= WIDE_TERMINAL
    console.print(_table(dataset, split, wide))
    for row in dataset.run_rows:
        if not wide:
            print_line(_cost_line(row))
    print_line("sources:")
    for source in dict.fromkeys((row.source, row.url) for row in dataset.rows):
        methods = [f"{row.method} ({row.input})" for row in dataset.rows if (row.source, row.url) == source]
        print_line(f"  {'; '.join(methods)}: {' '.join(filter(None, source))}")
    for test in dataset.paired_tests:
        print_line(describe_paired_test(*test))


def _table(dataset: DatasetComparison, split: str, wide: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    from nephros.text_tables import format_count, format_number

    table = Table(title=f"{dataset.title}: {split}")
    costs = ("parameters", "mult-adds", "minutes", "device", "checkpoint") if wide else ()
    for header in ("method", "input", "accuracy", "interval", "AUC", "macro\nF1", *costs, "split"):
        is_text = header in ("method", "input", "device", "checkpoint", "split")
        max_width = None if wide else {"input": 11, "split": 8}.get(header)  # the method gets the rest
        table.add_column(
            Text(header),
            justify="left" if is_text else "right",
            no_wrap=not is_text,
            overflow="fold",
            max_width=max_width,
        )
    for row in dataset.rows:
        interval = "" if row.low is None else f"{format_number(row.low)} to {format_number(row.high)} ({row.interval})"
        cells = [row.label, row.input, format_number(row.accuracy), interval]
        cells += [format_number(row.auc), format_number(row.macro_f1)]
        if wide:
            cells += [format_count(row.parameters), format_count(row.multiply_adds)]
            cells += [format_number(row.training_minutes, 1), row.device, row.checkpoint]
        table.add_row(*cells, row.split, style="bold" if row.is_run else None)
    return table


def _cost_line(row: LeaderboardRow) -> str:
    from nephros.text_tables import format_count, format_number

    minutes = "" if row.training_minutes is None else f"{format_number(row.training_minutes, 1)} minutes "
    return (
        f"{row.label}: {format_count(row.parameters)} parameters, {format_count(row.multiply_adds)} multiply-adds, trained "
        f"{minutes}on {row.device}, weights: {row.checkpoint}"
    )
