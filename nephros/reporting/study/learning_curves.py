"""The learning curves of all configurations, a panel a bracket."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nephros.reporting.plots.classification import WIDE
from nephros.reporting.plots.style import LINE, MUTED, place, sheet, styled
from nephros.reporting.study.formatting import COLOUR, METRIC, WORDS, counted
from nephros.reporting.study.view import Fate, View
from nephros.tuning.hyperband import Bracket
from nephros.tuning.study_state import Config

_WIDTH: dict[Fate, float] = {"best": 1.9, "finished": 1.1, "running": 0.9, "eliminated": 0.6, "failed": 0.8}
_ALPHA: dict[Fate, float] = {"best": 1, "finished": 0.85, "running": 0.8, "eliminated": 0.5, "failed": 0.9}
ORDER: tuple[Fate, ...] = ("eliminated", "failed", "running", "finished", "best")
"""Back to front."""


def line_style(fate: Fate, crowd: int = 1) -> dict[str, Any]:
    """Return how a configuration's line is drawn among a `crowd` of so many."""
    dashes = (0, (3, 1.5)) if fate in ("running", "failed") else "-"
    alpha = 0.35 if fate == "eliminated" and crowd > 40 else _ALPHA[fate]
    return {"color": COLOUR[fate], "linewidth": _WIDTH[fate], "alpha": alpha, "linestyle": dashes}


def legend_lines(view: View) -> list[Line2D]:
    """Return a legend's lines for the fates that there are, the best first."""
    words = WORDS if view.records.over else {**WORDS, "best": "best so far"}
    there = [fate for fate in reversed(ORDER) if fate in view.fates.values()]
    return [Line2D([], [], **line_style(fate), label=words[fate]) for fate in there]


@styled
def learning(view: View) -> Figure:
    """Draw the study's metric by epoch of every configuration that has an epoch behind it."""
    shown = [bracket for bracket, _ in view.brackets if any(config.bracket == bracket.s for config in view.configs)]
    columns = min(3, len(shown)) if len(shown) != 4 else 2
    rows = -(-len(shown) // columns)
    left, top, gap, above, height = 0.55, 0.5, 0.28, 0.5, 2.0 if columns == 3 else 2.5
    width = (WIDE - left - 0.1 - gap * (columns - 1)) / columns
    figure = sheet(WIDE, top + rows * (height + above) + 0.25, view.title)
    low, high, left_out = limits(view)
    for at, bracket in enumerate(shown):
        row, column = divmod(at, columns)
        axes = place(figure, left + column * (width + gap), top + row * (height + above), width, height)
        _panel(axes, view, bracket)
        axes.set_ylim(low, high)
        axes.tick_params(labelleft=column == 0)
        if column == 0:
            axes.set_ylabel(f"validation {METRIC[view.settings.metric]}")
        if at + columns >= len(shown):
            axes.set_xlabel("epochs trained")
    words = [*legend_lines(view)]
    if left_out:
        words.append(Line2D([], [], linestyle="none", label=f"{counted(left_out, 'value')} above the picture"))
    figure.legend(handles=words, loc="upper left", bbox_to_anchor=(0.03, 1), ncols=len(words), handlelength=2)
    return figure


def limits(view: View) -> tuple[float, float, int]:
    """Return the lowest and highest value to draw and how many values lie above: those of losses that went astray."""
    values = [value for config in view.configs for value in config.values.values() if math.isfinite(value)]
    if not values:
        return 0.0, 1.0, 0
    low, high = min(values), max(values)
    if view.settings.lower_is_better:
        quarter, three_quarters = np.quantile(values, [0.25, 0.75])
        reach = three_quarters + 4 * max(three_quarters - quarter, 0.05 * abs(three_quarters))
        high = max(value for value in values if value <= reach)
    margin = 0.05 * (high - low) or 0.05
    return low - margin, high + margin, sum(value > high + margin for value in values)


def _panel(axes: Axes, view: View, bracket: Bracket) -> None:
    own = [config for config in view.configs if config.bracket == bracket.s]
    for rung in bracket.rungs:
        axes.axvline(rung.epochs, color=LINE, linewidth=0.7, zorder=0)
    for fate in ORDER:
        for config in own:
            if view.fates[config.key] == fate:
                _curve(axes, config, fate, line_style(fate, len(own)))
    axes.set_xscale("log")
    axes.set_xlim(0.85, max(view.rungs[-1] * 1.18, 1.6))
    axes.xaxis.set_major_locator(FixedLocator(view.rungs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y")
    if view.settings.metric == "val_accuracy":
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_title(f"s = {bracket.s}", pad=5)
    started = counted(len(own), "configuration")
    axes.text(1, 1.025, started, transform=axes.transAxes, ha="right", va="bottom", fontsize=7, color=MUTED)


def _curve(axes: Axes, config: Config, fate: Fate, style: dict[str, Any]) -> None:
    epochs = [epoch for epoch in sorted(config.values) if math.isfinite(config.values[epoch])]
    if not epochs:
        return
    values = [config.values[epoch] for epoch in epochs]
    axes.plot(epochs, values, **style)
    end: dict[str, Any] = {
        "marker": "x" if fate == "failed" else "o",
        "markersize": 4 if fate in ("best", "failed") else 2.6,
    }
    axes.plot(epochs[-1:], values[-1:], color=COLOUR[fate], alpha=style["alpha"], linestyle="none", **end)
