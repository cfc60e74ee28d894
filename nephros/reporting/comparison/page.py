"""A comparison as files: compare.md, compare.csv, and compare.html with its chart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from nephros.escaping import command_without_folders
from nephros.evaluation.leaderboard import Comparison, DatasetComparison, LeaderboardRow
from nephros.evaluation.significance import PairedComparison
from nephros.files import write_text
from nephros.reporting.html import load_template, save_figure
from nephros.reporting.plots.accuracy_charts import plot_leaderboard
from nephros.text_tables import csv_table, format_number, markdown_table

COLUMNS = (
    "data_set",
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
SIGNIFICANCE_LEVEL = 0.05
MIN_P = 1e-300
"""Smaller p values are written as below it; double precision does not tell them from 0."""


@dataclass(frozen=True)
class _PairedTestRow:
    """One test of significance, as text."""

    better: str
    other: str
    is_significant: bool
    verdict: str
    difference: str
    interval: str
    first_only: str
    second_only: str
    p: str
    """Corrected for the number of tests."""


@dataclass(frozen=True)
class _Section:
    """One data set's part of the page."""

    suffix: str
    """End of the ids of its elements; empty for the first."""
    comparison: DatasetComparison
    chart: Markup
    paired_tests: list[_PairedTestRow]


def write_comparison(comparison: Comparison, out: Path) -> list[Path]:
    """Write compare.md, compare.csv, compare.html and figures/compare.png and .svg to `out`; return the first three.

    The chart of a second data set is figures/compare-2.png and .svg, and so on.
    """
    prefix = "synthetic-" if "synthetic" in comparison.title else ""
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    sections = []
    for number, dataset in enumerate(comparison.datasets, start=1):
        suffix = "" if number == 1 else f"-{number}"
        alt = f"Accuracy of {len(dataset.rows)} methods on {dataset.title}, from the highest to the lowest"
        figure = plot_leaderboard(dataset.rows, comparison.split, dataset.title)
        chart = save_figure(figure, figures / f"{prefix}compare{suffix}.png", alt)
        tests = [_paired_test_row(*row) for row in dataset.paired_tests]
        sections.append(_Section(suffix, dataset, chart, tests))
    page = load_template("comparison/compare.html").render(
        comparison=comparison,
        data_title=comparison.title if len(sections) == 1 else f"{len(sections)} data sets",
        sections=sections,
        notes=comparison.notes if len(sections) == 1 else comparison.general_notes,
    )
    texts = {"compare.md": to_markdown(comparison), "compare.csv": to_csv(comparison), "compare.html": page}
    for name, text in texts.items():
        write_text(out / f"{prefix}{name}", text)
    return [out / f"{prefix}{name}" for name in texts]


def to_cells(row: LeaderboardRow) -> list[str]:
    """Return a row's cells, one per column of COLUMNS; empty for what is not known."""
    counts = ["" if value is None else str(value) for value in (row.parameters, row.multiply_adds)]
    accuracies, other_metrics = (row.accuracy, row.low, row.high), (row.auc, row.macro_f1)
    labels = [row.device, row.checkpoint, row.split, row.input, _source(row)]
    return [
        row.dataset,
        row.label,
        *map(format_number, accuracies),
        row.interval,
        *map(format_number, other_metrics),
        *counts,
        format_number(row.training_minutes, 1),
        *labels,
    ]


def _source(row: LeaderboardRow) -> str:
    return command_without_folders(row.source) if row.source.startswith("nephros ") else row.source


def describe_paired_test(better: str, other: str, test: PairedComparison) -> str:
    """Return a sentence on how two runs compare."""
    is_corrected = test.p_holm != test.p_value
    corrected = f" (p {_format_p(test.p_holm)} after Holm's correction)" if is_corrected else ""
    verdict = _verdict(test)
    return (
        f"{better} minus {other}: {100 * test.difference:+.2f} points of accuracy (95% interval {100 * test.low:+.2f} to "
        f"{100 * test.high:+.2f}, paired bootstrap). {test.n_first_only:,} images were classified correctly by the first only, "
        f"{test.n_second_only:,} by the second only; McNemar's exact test: p {_format_p(test.p_value)}{corrected}, {verdict}"
    )


def _paired_test_row(better: str, other: str, test: PairedComparison) -> _PairedTestRow:
    return _PairedTestRow(
        better,
        other,
        is_significant=test.p_holm < SIGNIFICANCE_LEVEL,
        verdict=_verdict(test),
        difference=f"{100 * test.difference:+.2f}",
        interval=f"{100 * test.low:+.2f} to {100 * test.high:+.2f}",
        first_only=f"{test.n_first_only:,}",
        second_only=f"{test.n_second_only:,}",
        p=_format_p(test.p_holm).removeprefix("= "),
    )


def _verdict(test: PairedComparison) -> str:
    return f"{'' if test.p_holm < SIGNIFICANCE_LEVEL else 'not '}significant at {SIGNIFICANCE_LEVEL}"


def _format_p(p: float) -> str:
    return f"= {p:.2g}" if p >= MIN_P else f"< {MIN_P:g}"


def to_markdown(comparison: Comparison) -> str:
    """Return a table per data set, each with its paired tests above it and its notes below."""
    if len(comparison.datasets) == 1:
        return _dataset_markdown(comparison.datasets[0], comparison.notes)
    parts = [f"## {dataset.title}\n\n{_dataset_markdown(dataset, dataset.notes)}" for dataset in comparison.datasets]
    return "\n".join(["".join(f"- {note}\n" for note in comparison.general_notes), *parts])


def _dataset_markdown(dataset: DatasetComparison, notes: list[str]) -> str:
    table = markdown_table(COLUMNS, [to_cells(row) for row in dataset.rows])
    tests = "".join(f"- {describe_paired_test(*test)}.\n" for test in dataset.paired_tests)
    lines = "".join(f"- {note}\n" for note in notes)
    return f"{tests}\n{table}\n{lines}\ndata: {dataset.title}\n".lstrip()


def to_csv(comparison: Comparison) -> str:
    """Return the rows of all data sets, one data set after another, without paired tests and notes."""
    return csv_table(COLUMNS, [to_cells(row) for row in comparison.rows])
