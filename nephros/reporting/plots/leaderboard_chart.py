"""Runs among published TissueMNIST results, as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from nephros.evaluation.leaderboard import Standing
from nephros.reporting.plots.classification import WIDE
from nephros.reporting.plots.style import INK, LIGHT, MUTED, PAPER, place, sheet, styled


@styled
def standing(rows: Sequence[Standing], split: str, title: str) -> Figure:
    """Draw the accuracies as dots on one scale, ours in the colour of their `split`; hollow where not of the official one."""
    step = 0.235
    figure = sheet(WIDE, 0.55 + step * len(rows) + 0.45, title)
    axes = place(figure, 3.3, 0.1, WIDE - 3.3 - 0.6, step * len(rows) + 0.1)
    for place_, row in enumerate(rows):
        colour = LIGHT[split] if row.own else MUTED
        filled = colour if row.split.startswith("official") else PAPER
        axes.plot([0, row.accuracy], [place_, place_], color=colour, linewidth=0.5, alpha=0.55)
        if row.low is not None and row.high is not None:
            axes.plot(
                [row.low, row.high], [place_, place_], color=colour, linewidth=3, alpha=0.5, solid_capstyle="butt"
            )
        axes.plot(
            [row.accuracy], [place_], marker="o", markersize=8 if row.own else 5.5, color=colour, markerfacecolor=filled,
            linestyle="none", zorder=3,
        )  # fmt: skip
        axes.annotate(
            f"{100 * row.accuracy:.1f} %", (row.accuracy, place_), xytext=(8, 0), textcoords="offset points", va="center",
            fontsize=7.5, color=colour, weight="bold" if row.own else "normal",
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [f"{row.method}  ({row.input})" for row in rows], fontsize=6.8, color=INK)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        if row.own:
            label.set(color=LIGHT[split], weight="bold")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    lowest = min(row.accuracy for row in rows)
    axes.set_xlim(max(0.0, int(lowest * 10 - 0.5) / 10), max(row.accuracy for row in rows) + 0.01)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlabel("accuracy; hollow: not on the official test split")
    axes.spines["left"].set_visible(False)
    return figure
