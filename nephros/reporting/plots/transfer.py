"""Accuracy on new classes by labels per class: a panel per task, a line per method."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from nephros.experiments.transfer import TransferRow
from nephros.reporting.plots.style import (
    INK,
    LIGHT_COLORS,
    MUTED,
    PAGE_WIDTH,
    add_axes,
    new_figure,
    percent_axis,
    with_style,
)

_PANEL_HEIGHT, _PANEL_GAP = 2.6, 0.75
"""Inches."""
_STYLES = {
    "finetune": (LIGHT_COLORS["test"], "o", 1.8),
    "scratch": (LIGHT_COLORS["val"], "s", 1.4),
    "head": (INK, "^", 1.0),
    "network": (INK, "v", 1.0),
}
"""Method -> color, marker and line width; the others are muted."""


@with_style
def plot_transfer(rows: Sequence[TransferRow]) -> Figure:
    """Plot the mean accuracy over draws of each method against labels per class, on a logarithmic axis, a panel per task.

    Points of at most half as many draws as others are left out: they say little, and look like the others.
    """
    draws: dict[tuple[str, int], set[int]] = {}
    for row in rows:
        draws.setdefault((row.task, row.labels_per_class), set()).add(row.draw)
    most = max(map(len, draws.values()))
    rows = [row for row in rows if 2 * len(draws[row.task, row.labels_per_class]) > most]
    tasks = list(dict.fromkeys(row.task for row in rows))
    n_lines = (len(tasks) + 1) // 2
    height = n_lines * (_PANEL_HEIGHT + _PANEL_GAP) + 0.25
    figure = new_figure(PAGE_WIDTH, height, "new classes from few labels")
    width = (PAGE_WIDTH - 0.6) / 2 - 1.05
    for i, task in enumerate(tasks):
        left, top = 0.6 + (i % 2) * (PAGE_WIDTH - 0.3) / 2, 0.25 + (i // 2) * (_PANEL_HEIGHT + _PANEL_GAP)
        axes = add_axes(figure, left, top, width, _PANEL_HEIGHT)
        _draw_panel(axes, [row for row in rows if row.task == task])
        axes.set_title(task, loc="left", fontsize=8, color=INK)
    return figure


def _draw_panel(axes: Axes, rows: Sequence[TransferRow]) -> None:
    sizes = sorted({row.labels_per_class for row in rows})
    ends = []
    for method in dict.fromkeys(row.method for row in rows):
        color, marker, width = _STYLES.get(method, (MUTED, ".", 0.8))
        points = {
            size: [row.accuracy for row in rows if (row.method, row.labels_per_class) == (method, size)]
            for size in sizes
        }
        means = [(size, mean(values)) for size, values in points.items() if values]
        axes.plot(*zip(*means, strict=True), marker=marker, color=color, linewidth=width, markersize=3.5)
        ends.append((means[-1][1], method, color))
    low, high = axes.get_ylim()
    place = high
    for value, method, color in sorted(ends, reverse=True):
        place = min(value, place - (high - low) * 0.06)
        axes.text(0.98, place, method, transform=axes.get_yaxis_transform(), color=color, fontsize=6.8, va="center")
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    percent_axis(axes.yaxis)
    axes.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))  # not 2.5, whose labels are wide
    axes.grid(axis="y")
    axes.set_xlabel("labels per class")
    axes.set_ylabel("accuracy on held-out images")
