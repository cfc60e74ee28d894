"""The learning curves of all configurations, one panel per bracket."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nephros.reporting.plots.style import (
    LINE,
    MUTED,
    PAGE_WIDTH,
    SMALL,
    add_axes,
    new_figure,
    percent_axis,
    with_style,
)
from nephros.reporting.study.formatting import METRIC_NAMES, STATUS_COLORS, STATUS_LABELS
from nephros.reporting.study.view import StudyView, TrialStatus
from nephros.text_tables import pluralize
from nephros.tuning.hyperband import Bracket
from nephros.tuning.study_state import Config

_LINE_WIDTHS: dict[TrialStatus, float] = {
    "best": 1.9,
    "complete": 1.1,
    "running": 0.9,
    "pruned": 0.6,
    "failed": 0.8,
}
_ALPHAS: dict[TrialStatus, float] = {"best": 1, "complete": 0.85, "running": 0.8, "pruned": 0.5, "failed": 0.9}
DRAW_ORDER: tuple[TrialStatus, ...] = ("pruned", "failed", "running", "complete", "best")
"""Back to front."""


def line_style(status: TrialStatus, n_lines: int = 1) -> dict[str, Any]:
    """Return the line style of a configuration among `n_lines`."""
    dashes = (0, (3, 1.5)) if status in ("running", "failed") else "-"
    alpha = 0.35 if status == "pruned" and n_lines > 40 else _ALPHAS[status]
    return {"color": STATUS_COLORS[status], "linewidth": _LINE_WIDTHS[status], "alpha": alpha, "linestyle": dashes}


def legend_lines(view: StudyView) -> list[Line2D]:
    """Return the legend's lines for the statuses that occur, the best first."""
    labels = STATUS_LABELS if view.study_state.finished else {**STATUS_LABELS, "best": "best so far"}
    present = [status for status in reversed(DRAW_ORDER) if status in view.statuses.values()]
    return [Line2D([], [], **line_style(status), label=labels[status]) for status in present]


@with_style
def plot_learning_curves(view: StudyView) -> Figure:
    """Plot the study's metric by epoch for each configuration with at least one epoch."""
    brackets = [bracket for bracket, _ in view.brackets if any(config.bracket == bracket.s for config in view.configs)]
    n_columns = min(3, len(brackets)) if len(brackets) != 4 else 2
    n_rows = -(-len(brackets) // n_columns)
    left, top, gap, title_height, height = 0.65, 0.5, 0.28, 0.5, 2.0 if n_columns == 3 else 2.5
    width = (PAGE_WIDTH - left - 0.1 - gap * (n_columns - 1)) / n_columns
    figure = new_figure(PAGE_WIDTH, top + n_rows * (height + title_height) + 0.25, view.data_title)
    low, high, n_above = value_limits(view)
    for position, bracket in enumerate(brackets):
        row, column = divmod(position, n_columns)
        axes = add_axes(figure, left + column * (width + gap), top + row * (height + title_height), width, height)
        _draw_panel(axes, view, bracket)
        axes.set_ylim(low, high)
        axes.tick_params(labelleft=column == 0)
        if column == 0:
            axes.set_ylabel(f"validation {METRIC_NAMES[view.settings.metric]}")
        if position + n_columns >= len(brackets):
            axes.set_xlabel("epochs trained")
    handles = [*legend_lines(view)]
    if n_above:
        handles.append(Line2D([], [], linestyle="none", label=f"{pluralize(n_above, 'value')} above the plot"))
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.03, 1), ncols=len(handles), handlelength=2)
    return figure


def value_limits(view: StudyView) -> tuple[float, float, int]:
    """Return the lowest and highest value to plot, and how many values lie above: losses that diverged."""
    values = [value for config in view.configs for value in config.values.values() if math.isfinite(value)]
    if not values:
        return 0.0, 1.0, 0
    low, high = min(values), max(values)
    if view.settings.lower_is_better:
        lower_quartile, upper_quartile = np.quantile(values, [0.25, 0.75])
        upper_fence = upper_quartile + 4 * max(upper_quartile - lower_quartile, 0.05 * abs(upper_quartile))
        high = max(value for value in values if value <= upper_fence)
    margin = 0.05 * (high - low) or 0.05
    return low - margin, high + margin, sum(value > high + margin for value in values)


def _draw_panel(axes: Axes, view: StudyView, bracket: Bracket) -> None:
    configs = [config for config in view.configs if config.bracket == bracket.s]
    for rung in bracket.rungs:
        axes.axvline(rung.epochs, color=LINE, linewidth=0.7, zorder=0)
    for status in DRAW_ORDER:
        for config in configs:
            if view.statuses[config.key] == status:
                _draw_curve(axes, config, status, line_style(status, len(configs)))
    axes.set_xscale("log")
    axes.set_xlim(0.85, max(view.rungs[-1] * 1.18, 1.6))
    axes.xaxis.set_major_locator(FixedLocator(view.rungs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y")
    if view.settings.metric == "val_accuracy":
        percent_axis(axes.yaxis)
    axes.set_title(f"s = {bracket.s}", pad=5)
    count_label = pluralize(len(configs), "configuration")
    axes.text(1, 1.025, count_label, transform=axes.transAxes, ha="right", va="bottom", fontsize=SMALL, color=MUTED)


def _draw_curve(axes: Axes, config: Config, status: TrialStatus, style: dict[str, Any]) -> None:
    epochs = [epoch for epoch in sorted(config.values) if math.isfinite(config.values[epoch])]
    if not epochs:
        return
    values = [config.values[epoch] for epoch in epochs]
    axes.plot(epochs, values, **style)
    marker_style: dict[str, Any] = {
        "marker": "x" if status == "failed" else "o",
        "markersize": 4 if status in ("best", "failed") else 2.6,
    }
    axes.plot(
        epochs[-1:], values[-1:], color=STATUS_COLORS[status], alpha=style["alpha"], linestyle="none", **marker_style
    )
