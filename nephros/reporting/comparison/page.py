"""A comparison as files: compare.md, compare.csv, and compare.html with its chart."""

from __future__ import annotations

from pathlib import Path

from nephros.evaluation.leaderboard import Comparison, LeaderboardRow
from nephros.evaluation.significance import PairedComparison
from nephros.files import write_text
from nephros.reporting.plots.accuracy_charts import plot_leaderboard
from nephros.reporting.plots.save import save_figure
from nephros.reporting.templates import load_template
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
"""Smaller p values are written as below it; double precision does not tell them from 0."""


def write_comparison(comparison: Comparison, out: Path) -> list[Path]:
    """Write compare.md, compare.csv, compare.html and figures/compare.png and .svg to `out`; return the first three."""
    prefix = "synthetic-" if "synthetic" in comparison.title else ""
    figure_file = out / "figures" / f"{prefix}compare.png"
    figure_file.parent.mkdir(parents=True, exist_ok=True)
    alt = f"Accuracy of {len(comparison.rows)} methods, from the highest to the lowest"
    chart = save_figure(plot_leaderboard(comparison.rows, comparison.split, comparison.title), figure_file, alt)
    page = load_template("comparison/compare.html").render(
        comparison=comparison,
        data_title=comparison.title,
        chart=chart,
        paired_tests=[describe_paired_test(*row) for row in comparison.paired_tests],
    )
    texts = {"compare.md": to_markdown(comparison), "compare.csv": to_csv(comparison), "compare.html": page}
    for name, text in texts.items():
        write_text(out / f"{prefix}{name}", text)
    return [out / f"{prefix}{name}" for name in texts]


def to_cells(row: LeaderboardRow) -> list[str]:
    """Return a row's cells, one per column of COLUMNS; empty for what is not known."""
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
    """Return a sentence on how two runs compare."""
    is_corrected = test.p_holm != test.p_value
    corrected = f" (p {_format_p(test.p_holm)} after Holm's correction)" if is_corrected else ""
    verdict = f"{'' if test.p_holm < 0.05 else 'not '}significant at 0.05"
    return (
        f"{better} minus {other}: {100 * test.difference:+.2f} points of accuracy (95 % interval {100 * test.low:+.2f} to "
        f"{100 * test.high:+.2f}, paired bootstrap). Only the first classified {test.n_first_only:,} cells correctly, only the "
        f"second {test.n_second_only:,}; McNemar's exact test: p {_format_p(test.p_value)}{corrected}, {verdict}"
    )


def _format_p(p: float) -> str:
    return f"= {p:.2g}" if p >= MIN_P else f"< {MIN_P:g}"


def to_markdown(comparison: Comparison) -> str:
    """Return the table, with paired tests and notes below it."""
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
    """Return the table without paired tests and notes."""
    return csv_table(COLUMNS, [to_cells(row) for row in comparison.rows])
