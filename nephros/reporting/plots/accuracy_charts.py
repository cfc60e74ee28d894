"""Charts of accuracy: the leaderboard, and label efficiency. From data to a figure, without files."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from nephros.evaluation.leaderboard import LeaderboardRow
from nephros.experiments.results import SeedResults
from nephros.reporting.plots.style import (
    INK,
    LIGHT_COLORS,
    MUTED,
    PAGE_WIDTH,
    PAPER,
    SMALL,
    add_axes,
    new_figure,
    percent_axis,
    with_style,
)

_LABEL_EFFICIENCY_HEIGHT = 4.0
"""Inches."""
_MARKERS = {"nephros": (LIGHT_COLORS["test"], "o"), "course-1": (LIGHT_COLORS["val"], "s")}
"""Recipe -> color and marker; other recipes are drawn in ink."""


@with_style
def plot_leaderboard(rows: Sequence[LeaderboardRow], split: str, title: str) -> Figure:
    """Plot accuracies as dots on one scale, those of runs in the color of `split`; hollow where not on the official split."""
    row_height, labels = 0.195, [_tick_label(row) for row in rows]
    heights = [1.3 if "\n" in label else 1.0 for label in labels]
    positions = [end - height / 2 for end, height in zip(itertools.accumulate(heights), heights, strict=True)]
    figure = new_figure(PAGE_WIDTH, 0.55 + row_height * sum(heights) + 0.45, title)
    axes = add_axes(figure, 3.3, 0.1, PAGE_WIDTH - 3.3 - 0.6, row_height * sum(heights) + 0.1)
    for y, row in zip(positions, rows, strict=True):
        color = LIGHT_COLORS[split] if row.is_run else MUTED
        face_color = color if row.split.startswith("official") else PAPER
        axes.plot([0, row.accuracy], [y, y], color=color, linewidth=0.5, alpha=0.55)
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [y, y], color=color, linewidth=3, alpha=0.5, solid_capstyle="butt")
        axes.plot(
            [row.accuracy], [y], marker="o", markersize=8 if row.is_run else 5.5, color=color, markerfacecolor=face_color,
            linestyle="none", zorder=3,
        )  # fmt: skip
        axes.annotate(
            f"{100 * row.accuracy:.1f}%", (_right_end(row), y), xytext=(8, 0), textcoords="offset points", va="center",
            fontsize=7.5, color=color, weight="bold" if row.is_run else "normal",
        )  # fmt: skip
    axes.set_yticks(positions, labels, fontsize=SMALL, color=INK)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        if row.is_run:
            label.set(color=LIGHT_COLORS[split], weight="bold")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(sum(heights) + 0.1, -0.1)
    lowest = min(row.accuracy if row.low is None else row.low for row in rows)
    axes.set_xlim(max(0.0, int(lowest * 10 - 0.5) / 10), max(map(_right_end, rows)) + 0.01)
    percent_axis(axes.xaxis)
    axes.set_xlabel("accuracy (hollow: not on the official test split)")
    axes.spines["left"].set_visible(False)
    return figure


def _tick_label(row: LeaderboardRow) -> str:
    """Return the method and its input, such as ``ResNet-18 · 28 px``, with the training subset on a second line."""
    subset = f"\n{row.training_subset}" if row.training_subset else ""
    return f"{row.method} · {re.sub('^[0-9x ]*[0-9]', lambda side: f'{side[0]} px', row.input)}{subset}"


def _right_end(row: LeaderboardRow) -> float:
    """Return the right end of a row's interval, or its accuracy where it has none."""
    return row.accuracy if row.high is None else row.high


@with_style
def plot_label_efficiency(results: Sequence[SeedResults]) -> Figure:
    """Plot each recipe's test accuracy, every seed and the mean, against its training images on a logarithmic axis."""
    finished = [result for result in results if result.seeds]
    title = finished[0].infos[0].data["title"]
    figure = new_figure(PAGE_WIDTH, _LABEL_EFFICIENCY_HEIGHT, title)
    axes = add_axes(figure, 0.75, 0.25, PAGE_WIDTH - 0.75 - 0.9, _LABEL_EFFICIENCY_HEIGHT - 0.95)
    for name in dict.fromkeys(result.plan_row.recipe.name for result in finished):
        color, marker = _MARKERS.get(name, (INK, "^"))
        series = [result for result in finished if result.plan_row.recipe.name == name]
        train_sizes = [sum(result.infos[0].class_counts["train"]) for result in series]
        means = [result.mean("accuracy") or 0.0 for result in series]
        axes.plot(train_sizes, means, color=color, linewidth=1.4)
        for n, result in zip(train_sizes, series, strict=True):
            values = result.values("accuracy")
            axes.plot([n] * len(values), values, marker, color=color, markersize=4, markeredgewidth=0, alpha=0.55)
        axes.annotate(
            f" {name}", (train_sizes[-1], means[-1]), xytext=(6, 0), textcoords="offset points", va="center", color=color,
            weight="bold", fontsize=8,
        )  # fmt: skip
    axes.set_xscale("log")
    ticks = sorted({sum(result.infos[0].class_counts["train"]) for result in finished})
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    percent_axis(axes.yaxis)
    axes.grid(axis="y")
    axes.set_xlabel("training images (points: seeds; line: their mean; the number of steps is the same throughout)")
    axes.set_ylabel("test accuracy")
    return figure
