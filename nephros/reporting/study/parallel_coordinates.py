"""Parallel coordinates: a line a configuration through the values that it had, the epochs that it got and its score."""

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

from nephros.reporting.plots.classification import WIDE
from nephros.reporting.plots.style import INK, MUTED, PAPER, place, sheet, styled
from nephros.reporting.study.formatting import METRIC, plain, same, shown
from nephros.reporting.study.learning_curves import ORDER, legend_lines, limits, line_style
from nephros.reporting.study.view import View
from nephros.tuning.dimension import Dimension
from nephros.tuning.study_state import Config

_UNUSED = -0.13
"""Height at which a line passes an axis that its configuration has no value for."""
_MANY = 9
"""Choices beyond which not every one gets its name."""


@dataclass(frozen=True)
class _Scale:
    """One upright axis: 0 is its foot, 1 its top."""

    name: str
    ticks: list[tuple[float, str]]
    dimension: Dimension | None = None

    def height(self, value: Any, lane: float) -> float:
        """Return where a value stands; choices are spread a little by `lane` (0 to 1), so that lines stay apart."""
        dimension = self.dimension
        assert dimension is not None
        if dimension.kind == "categorical":
            texts = [same(choice) for choice in dimension.choices]
            room = 1 / max(1, len(texts))
            return (texts.index(same(value)) + 0.5 + 0.55 * (lane - 0.5)) * room
        return _along(value, dimension.low, dimension.high, dimension.log)


@styled
def parallel(view: View) -> Figure:
    """Draw every configuration through one axis a searched field, then the epochs it was trained for, then its last score."""
    scales = [_scale(dimension) for dimension in view.space]
    width = max(WIDE, 0.95 * (len(scales) + 2))
    figure = sheet(width, 4.75, view.title)
    axes = place(figure, 0.45, 0.85, width - 0.9, 3.6)
    axes.set(xlim=(-0.35, len(scales) + 1.45), ylim=(-0.2, 1.03))
    axes.set_axis_off()
    low, high, _ = limits(view)
    ends = [_epochs_scale(view), _score_scale(view, low, high)]
    total = max(1, len(view.configs) - 1)
    for fate in ORDER:
        for at, config in enumerate(view.configs):
            if view.fates[config.key] == fate:
                heights = [
                    scale.height(config.params[scale.dimension.key], (at * 7 % (total + 1)) / total)
                    if scale.dimension is not None and scale.dimension.key in config.params
                    else _UNUSED
                    for scale in scales
                ]
                _line(axes, heights + _results(view, config, low, high), line_style(fate, total))
    lacking = {key for config in view.configs for key in _keys(view) if key not in config.params}
    for x, scale in enumerate([*scales, *ends]):
        _axis(axes, x, scale, scale.dimension is not None and scale.dimension.key in lacking)
    lines = legend_lines(view)
    figure.legend(handles=lines, loc="upper left", bbox_to_anchor=(0.02, 1), ncols=max(1, len(lines)), handlelength=2)
    return figure


def _keys(view: View) -> list[str]:
    return [dimension.key for dimension in view.space]


def _along(value: float, low: float, high: float, log: bool) -> float:
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def _scale(dimension: Dimension) -> _Scale:
    name = dimension.key.replace(".", "\n").replace("_", " ")
    if dimension.kind == "categorical":
        n = len(dimension.choices)
        keep = range(n) if n <= _MANY else (0, n - 1)
        return _Scale(name, [((i + 0.5) / n, plain(dimension.choices[i])) for i in keep], dimension)
    low, high = dimension.low, dimension.high
    values = [low, *_between(dimension), high]
    ticks = [(_along(value, low, high, dimension.log), plain(value)) for value in values]
    return _Scale(name, ticks, dimension)


def _between(dimension: Dimension) -> list[float]:
    """Return round values between the ends, none so close to an end or to each other that their names would touch."""
    low, high = dimension.low, dimension.high
    if dimension.log:
        decades = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
        found = [10.0**power for power in decades]
    elif dimension.kind == "int" and high - low <= 8:
        found = [float(value) for value in range(int(low) + 1, int(high))]
    else:
        found = [low + (high - low) / 2]
    apart = [value for value in found if 0.07 < _along(value, low, high, dimension.log) < 0.93]
    return [int(value) if dimension.kind == "int" else value for value in apart]


def _epochs_scale(view: View) -> _Scale:
    return _Scale("epochs\ntrained", [(_of_epochs(view, rung), str(rung)) for rung in view.rungs])


def _of_epochs(view: View, epochs: int) -> float:
    return _along(epochs, 1, max(2, view.rungs[-1]), log=True)


def _score_scale(view: View, low: float, high: float) -> _Scale:
    marks = [float(mark) for mark in MaxNLocator(5).tick_values(low, high) if low <= mark <= high]
    name = f"validation\n{METRIC[view.settings.metric]}"
    return _Scale(name, [(_of_score(view, mark, low, high), shown(view, mark, 0)) for mark in marks])


def _of_score(view: View, value: float, low: float, high: float) -> float:
    share = min(1.0, (value - low) / (high - low))
    return 1 - share if view.settings.lower_is_better else share


def _results(view: View, config: Config, low: float, high: float) -> list[float]:
    """Return the heights on the last two axes, of those that the configuration has come to."""
    value = view.last_value(config.key)
    if not config.epochs:
        return []
    return [_of_epochs(view, config.epochs), *([_of_score(view, value, low, high)] if value is not None else [])]


def _line(axes: Axes, heights: list[float], style: dict[str, Any]) -> None:
    points, codes = [(0.0, heights[0])], [int(Path.MOVETO)]
    for x, (before, after) in enumerate(itertools.pairwise(heights)):
        points += [(x + 0.4, before), (x + 0.6, after), (x + 1.0, after)]
        codes += [int(Path.CURVE4)] * 3
    edge = {"edgecolor": style["color"], **{key: style[key] for key in ("linewidth", "alpha", "linestyle")}}
    axes.add_patch(PathPatch(Path(points, codes), fill=False, clip_on=False, **edge))


def _axis(axes: Axes, x: int, scale: _Scale, lacking: bool) -> None:
    axes.plot([x, x], [0, 1], color=MUTED, linewidth=0.8)
    marks = [*scale.ticks, *([(_UNUSED, "not used")] if lacking else [])]
    for height, words in marks:
        axes.plot([x - 0.02, x + 0.02], [height] * 2, color=MUTED, linewidth=0.8)
        box = {"facecolor": PAPER, "alpha": 0.82, "edgecolor": "none", "boxstyle": "square,pad=0.15"}
        axes.text(x + 0.06, height, words, fontsize=6.3, color=INK, va="center", bbox=box)
    axes.text(x, 1.06, scale.name, ha="center", va="bottom", fontsize=7.2, weight="bold", linespacing=1.15)
