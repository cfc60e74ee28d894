"""Runs among published TissueMNIST results, as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from nephros.evaluation.leaderboard import LeaderboardRow
from nephros.reporting.plots.classification import PAGE_WIDTH
from nephros.reporting.plots.style import INK, LIGHT_COLORS, MUTED, PAPER, add_axes, new_figure, with_style


@with_style
def plot_leaderboard(rows: Sequence[LeaderboardRow], split: str, title: str) -> Figure:
    """Draw the accuracies as dots on one scale, ours in the colour of their `split`; hollow where not of the official one."""
    row_height = 0.235
    figure = new_figure(PAGE_WIDTH, 0.55 + row_height * len(rows) + 0.45, title)
    axes = add_axes(figure, 3.3, 0.1, PAGE_WIDTH - 3.3 - 0.6, row_height * len(rows) + 0.1)
    for y, row in enumerate(rows):
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
            f"{100 * row.accuracy:.1f} %", (row.accuracy, y), xytext=(8, 0), textcoords="offset points", va="center",
            fontsize=7.5, color=color, weight="bold" if row.is_run else "normal",
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [f"{row.method}  ({row.input})" for row in rows], fontsize=6.8, color=INK)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        if row.is_run:
            label.set(color=LIGHT_COLORS[split], weight="bold")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    lowest = min(row.accuracy for row in rows)
    axes.set_xlim(max(0.0, int(lowest * 10 - 0.5) / 10), max(row.accuracy for row in rows) + 0.01)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlabel("accuracy; hollow: not on the official test split")
    axes.spines["left"].set_visible(False)
    return figure
