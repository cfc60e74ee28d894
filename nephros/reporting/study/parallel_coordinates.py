"""Parallel coordinates: one line per configuration through its values, its epochs and its score."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from nephros.reporting.plots.style import (
    INK,
    MUTED,
    PAPER,
    SMALL,
    WIDE_WIDTH,
    add_axes,
    new_figure,
    with_style,
)
from nephros.reporting.study.formatting import METRIC_NAMES, choice_key, format_metric, format_value
from nephros.reporting.study.learning_curves import DRAW_ORDER, legend_lines, line_style, value_limits
from nephros.reporting.study.view import StudyView
from nephros.tuning.space import Dimension
from nephros.tuning.study_state import Config

_UNUSED_HEIGHT = -0.13
"""Height at which a line passes an axis for which its configuration has no value."""
_MAX_LABELED_CHOICES = 9
"""Most choices that are all labeled."""


@dataclass(frozen=True)
class _Axis:
    """One vertical axis, from 0 at the bottom to 1 at the top."""

    name: str
    ticks: list[tuple[float, str]]
    dimension: Dimension | None = None

    def height(self, value: Any, jitter: float) -> float:
        """Return the height of a value; `jitter` (0 to 1) spreads lines through the same choice."""
        dimension = self.dimension
        assert dimension is not None
        if dimension.kind == "categorical":
            choice_keys = [choice_key(choice) for choice in dimension.choices]
            slot_height = 1 / max(1, len(choice_keys))
            return (choice_keys.index(choice_key(value)) + 0.5 + 0.55 * (jitter - 0.5)) * slot_height
        return _normalize(value, dimension.low, dimension.high, dimension.log)


@with_style
def plot_parallel_coordinates(view: StudyView) -> Figure:
    """Plot each configuration through an axis per searched field, then its epochs trained, then its last score."""
    field_axes = [_field_axis(dimension) for dimension in view.space]
    width = max(WIDE_WIDTH, 0.95 * (len(field_axes) + 2))
    figure = new_figure(width, 4.75, view.data_title)
    axes = add_axes(figure, 0.45, 0.85, width - 0.9, 3.6)
    axes.set(xlim=(-0.35, len(field_axes) + 1.45), ylim=(-0.2, 1.03))
    axes.set_axis_off()
    low, high, _ = value_limits(view)
    result_axes = [_epochs_axis(view), _metric_axis(view, low, high)]
    last_position = max(1, len(view.configs) - 1)
    for status in DRAW_ORDER:
        for position, config in enumerate(view.configs):
            if view.statuses[config.key] == status:
                heights = [
                    axis.height(config.params[axis.dimension.key], (position * 7 % (last_position + 1)) / last_position)
                    if axis.dimension is not None and axis.dimension.key in config.params
                    else _UNUSED_HEIGHT
                    for axis in field_axes
                ]
                _draw_line(axes, heights + _result_heights(view, config, low, high), line_style(status, last_position))
    inactive_keys = {key for config in view.configs for key in _field_keys(view) if key not in config.params}
    for x, axis in enumerate([*field_axes, *result_axes]):
        _draw_axis(axes, x, axis, axis.dimension is not None and axis.dimension.key in inactive_keys)
    lines = legend_lines(view)
    figure.legend(handles=lines, loc="upper left", bbox_to_anchor=(0.02, 1), ncols=max(1, len(lines)), handlelength=2)
    return figure


def _field_keys(view: StudyView) -> list[str]:
    return [dimension.key for dimension in view.space]


def _normalize(value: float, low: float, high: float, log: bool) -> float:
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def _field_axis(dimension: Dimension) -> _Axis:
    name = dimension.key.replace(".", "\n").replace("_", " ")
    if dimension.kind == "categorical":
        n = len(dimension.choices)
        labeled = range(n) if n <= _MAX_LABELED_CHOICES else (0, n - 1)
        return _Axis(name, [((i + 0.5) / n, format_value(dimension.choices[i])) for i in labeled], dimension)
    low, high = dimension.low, dimension.high
    values = [low, *_inner_ticks(dimension), high]
    ticks = [(_normalize(value, low, high, dimension.log), format_value(value)) for value in values]
    return _Axis(name, ticks, dimension)


def _inner_ticks(dimension: Dimension) -> list[float]:
    """Return round values between the ends, spaced so that their labels don't touch."""
    low, high = dimension.low, dimension.high
    if dimension.log:
        decades = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
        candidates = [10.0**power for power in decades]
    elif dimension.kind == "int":
        span = int(high - low)
        n_steps = span if span <= 8 else next((n for n in (4, 5, 3, 2) if span % n == 0), 1)
        candidates = [low + (high - low) * step / n_steps for step in range(1, n_steps)]
    else:
        candidates = [float(f"{low + (high - low) / 2:.4g}")]
    inner_values = [value for value in candidates if 0.07 < _normalize(value, low, high, dimension.log) < 0.93]
    return [int(value) if dimension.kind == "int" else value for value in inner_values]


def _epochs_axis(view: StudyView) -> _Axis:
    return _Axis("epochs\ntrained", [(_epochs_height(view, rung), str(rung)) for rung in view.rungs])


def _epochs_height(view: StudyView, epochs: int) -> float:
    return _normalize(epochs, 1, max(2, view.rungs[-1]), log=True)


def _metric_axis(view: StudyView, low: float, high: float) -> _Axis:
    name = f"validation\n{METRIC_NAMES[view.settings.metric]}"
    return _Axis(
        name, [(_metric_height(view, tick, low, high), label) for tick, label in metric_ticks(view, low, high)]
    )


def metric_ticks(view: StudyView, low: float, high: float) -> list[tuple[float, str]]:
    """Return round values of the study's metric from low to high at even steps, with as many digits as their steps need."""
    ticks = [float(tick) for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]
    digits = next((n for n in range(-2, 6) if all(abs(round(tick, n + 2) - tick) < 1e-9 for tick in ticks)), 5)
    return [
        (tick, format_metric(view, tick, max(0, digits) if view.settings.metric == "val_accuracy" else digits))
        for tick in ticks
    ]


def _metric_height(view: StudyView, value: float, low: float, high: float) -> float:
    fraction = min(1.0, (value - low) / (high - low))
    return 1 - fraction if view.settings.lower_is_better else fraction


def _result_heights(view: StudyView, config: Config, low: float, high: float) -> list[float]:
    """Return the configuration's heights on the last two axes, as far as it has values there."""
    value = view.last_value(config.key)
    if not config.trained_epochs:
        return []
    return [
        _epochs_height(view, config.trained_epochs),
        *([_metric_height(view, value, low, high)] if value is not None else []),
    ]


def _draw_line(axes: Axes, heights: list[float], style: dict[str, Any]) -> None:
    points, codes = [(0.0, heights[0])], [int(Path.MOVETO)]
    for x, (before, after) in enumerate(itertools.pairwise(heights)):
        points += [(x + 0.4, before), (x + 0.6, after), (x + 1.0, after)]
        codes += [int(Path.CURVE4)] * 3
    edge_style = {"edgecolor": style["color"], **{key: style[key] for key in ("linewidth", "alpha", "linestyle")}}
    axes.add_patch(PathPatch(Path(points, codes), fill=False, clip_on=False, **edge_style))


def _draw_axis(axes: Axes, x: int, axis: _Axis, has_inactive: bool) -> None:
    axes.plot([x, x], [0, 1], color=MUTED, linewidth=0.8)
    ticks = [*axis.ticks, *([(_UNUSED_HEIGHT, "not used")] if has_inactive else [])]
    for height, label in ticks:
        axes.plot([x - 0.02, x + 0.02], [height] * 2, color=MUTED, linewidth=0.8)
        box = {"facecolor": PAPER, "alpha": 0.82, "edgecolor": "none", "boxstyle": "square,pad=0.15"}
        axes.text(x + 0.06, height, label, fontsize=SMALL, color=INK, va="center", bbox=box)
    axes.text(x, 1.06, axis.name, ha="center", va="bottom", fontsize=SMALL, weight="bold", linespacing=1.15)
