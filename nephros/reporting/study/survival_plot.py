"""The survival plot: each bracket's rungs from left to right, one dot per configuration, the best on top."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from nephros.reporting.plots.style import (
    INK,
    LINE,
    MUTED,
    PAGE_WIDTH,
    PAPER,
    SMALL,
    add_axes,
    new_figure,
    with_style,
)
from nephros.reporting.study.formatting import STATUS_COLORS, config_name, format_metric
from nephros.reporting.study.view import StudyView, unreached_rungs
from nephros.text_tables import pluralize
from nephros.tuning.hyperband import Bracket, RungState, argsort_scores, is_failed

Point = tuple[float, float]
_LEFT, _RIGHT, _TOP, _HEADER, _GAP, _MIN_COLUMN_WIDTH = 0.62, 0.62, 0.5, 0.5, 0.16, 1.15


class SurvivalLayout:
    """The layout of the survival plot, in inches from the upper left corner.

    Rungs of equal epochs are aligned vertically. Each bracket starts one column further right than the one before it, so it
    fits beneath that one's survivors.
    """

    def __init__(self, view: StudyView) -> None:
        """Lay out the brackets of a study and create the empty figure."""
        self.view = view
        n_columns = max(len(bracket.rungs) for bracket, _ in view.brackets)
        self.row_height = min(0.155, 4.6 / max(bracket.n_configs for bracket, _ in view.brackets))
        self.marker_size = max(1.2, 72 * self.row_height * 0.62)
        self.width = max(PAGE_WIDTH, _LEFT + _MIN_COLUMN_WIDTH * n_columns + _RIGHT)
        self.column_width = (self.width - _LEFT - _RIGHT) / n_columns
        self.bracket_tops, top, height = list[float](), _TOP, 0.0
        for bracket, _ in view.brackets:
            self.bracket_tops.append(top)
            height = max(height, top + _HEADER + self.row_height * bracket.n_configs)
            n_survivors = bracket.rungs[1].n_configs if len(bracket.rungs) > 1 else 0
            top += _HEADER + self.row_height * n_survivors + _GAP
        height += 0.3
        self.figure = new_figure(self.width, height, view.data_title)
        self.axes = add_axes(self.figure, 0, 0, self.width, height)
        self.axes.set(xlim=(0, self.width), ylim=(height, 0))
        self.axes.set_axis_off()

    def x(self, bracket: Bracket, i: int) -> float:
        """Return the x position of rung i."""
        return self.width - _RIGHT - self.column_width * (len(bracket.rungs) - i - 0.5)

    def y(self, top: float, row: int) -> float:
        """Return the y position of a row of dots in a bracket that starts at `top`."""
        return top + _HEADER + self.row_height * (row + 0.5)

    def label_x(self, bracket: Bracket) -> float:
        """Return the x position of a bracket's label, clear of the dots to its left."""
        return self.x(bracket, 0) - min(self.column_width * 0.5 + _LEFT - 0.02, self.column_width - 0.14)


@with_style
def plot_survival(view: StudyView) -> Figure:
    """Plot which configurations each rung promotes: ranks from the top, survivors linked from rung to rung."""
    layout = SurvivalLayout(view)
    for (bracket, rung_states), top in zip(view.brackets, layout.bracket_tops, strict=True):
        _draw_bracket(layout, bracket, rung_states, top)
    _draw_legend(layout)
    return layout.figure


def _draw_bracket(layout: SurvivalLayout, bracket: Bracket, rung_states: list[RungState], top: float) -> None:
    axes, epochs_spent = (
        layout.axes,
        sum(rung_result.epochs_spent for rung_result in layout.view.rung_results if rung_result.key[0] == bracket.s),
    )
    left = layout.label_x(bracket)
    axes.plot([left, layout.width - 0.05], [top - 0.05] * 2, color=LINE, linewidth=0.7)
    axes.text(left, top + 0.14, f"s = {bracket.s}", weight="bold", fontsize=8, va="center")
    is_open = rung_states[-1].promoted is None
    for line, text in enumerate(
        [f"{epochs_spent:,} of {bracket.total_epochs:,}", "epochs"] if is_open else [pluralize(epochs_spent, "epoch")]
    ):
        axes.text(left, top + 0.29 + 0.13 * line, text, fontsize=SMALL, color=MUTED, va="center")
    columns = [_column_positions(layout, bracket, i, rung_state, top) for i, rung_state in enumerate(rung_states)]
    for i, (before, after) in enumerate(itertools.pairwise(columns)):
        for index in sorted(after, key=lambda index: layout.view.statuses[bracket.s, index] == "best"):
            _draw_link(
                layout,
                before[index],
                after[index],
                _config_color(layout.view, bracket, rung_states, i, index),
                len(after),
            )
    for i, column in enumerate(columns):
        _draw_header(layout, bracket, i, rung_states[i], top)
        _draw_dots(layout, bracket, rung_states, i, column)
    for i, rung in enumerate(unreached_rungs(bracket, rung_states), len(rung_states)):
        _draw_title(
            layout, layout.x(bracket, i), top, _rung_label(rung.n_configs, rung.epochs, i), ["not started"], MUTED
        )
        rows = [layout.y(top, row) for row in range(rung.n_configs)]
        axes.plot(
            [layout.x(bracket, i)] * len(rows),
            rows,
            "o",
            color=LINE,
            markersize=layout.marker_size * 0.6,
            markeredgewidth=0,
        )


def _column_positions(
    layout: SurvivalLayout, bracket: Bracket, i: int, rung_state: RungState, top: float
) -> dict[int, Point]:
    """Return the position of each member of rung i: the best on top, then the failed, those still running at the bottom."""
    order = argsort_scores([rung_state.scores.get(index) for index in rung_state.members])
    members = sorted(
        (rung_state.members[position] for position in order), key=lambda index: index not in rung_state.scores
    )
    return {index: (layout.x(bracket, i), layout.y(top, row)) for row, index in enumerate(members)}


def _rung_label(n_configs: int, epochs: int, i: int) -> str:
    return f"{n_configs} for {pluralize(epochs, 'epoch')}" if i == 0 else f"{n_configs} to {epochs} epochs"


def _draw_header(layout: SurvivalLayout, bracket: Bracket, i: int, rung_state: RungState, top: float) -> None:
    view, scores = layout.view, rung_state.scores
    if rung_state.promoted is None:
        sublines = [f"{len(scores)} of {len(rung_state.members)} finished"]
    else:
        finite_scores = sorted(score for score in scores.values() if score is not None and not is_failed(score))
        sublines = (
            [f"best {format_metric(view, view.metric_value(finite_scores[-1]))}"] if finite_scores else ["all failed"]
        )
        if rung_state.promoted and len(finite_scores) > len(rung_state.promoted):
            sublines.append(f"cut at {format_metric(view, view.metric_value(scores[rung_state.promoted[-1]]))}")
    _draw_title(
        layout,
        layout.x(bracket, i),
        top,
        _rung_label(len(rung_state.members), rung_state.rung.epochs, i),
        sublines,
        INK,
    )


def _draw_title(layout: SurvivalLayout, x: float, top: float, heading: str, sublines: list[str], color: str) -> None:
    weight = "bold" if color == INK else "normal"
    layout.axes.text(x, top + 0.14, heading, fontsize=7.5, weight=weight, color=color, ha="center", va="center")
    for line, subline in enumerate(sublines):
        layout.axes.text(x, top + 0.28 + 0.13 * line, subline, fontsize=SMALL, color=MUTED, ha="center", va="center")


def _config_color(view: StudyView, bracket: Bracket, rung_states: list[RungState], i: int, index: int) -> str:
    """Return the color of a configuration at rung i: that of the best, of the promoted or of the pruned."""
    if view.best and view.best.key == (bracket.s, index):
        return STATUS_COLORS["best"]
    promoted = rung_states[i].promoted
    survives = promoted is None or index in promoted or i == len(bracket.rungs) - 1
    return STATUS_COLORS["complete" if survives else "pruned"]


def _draw_link(layout: SurvivalLayout, start: Point, end: Point, color: str, n_links: int) -> None:
    best = color == STATUS_COLORS["best"]
    middle = (start[0] + end[0]) / 2
    path = Path(
        [start, (middle, start[1]), (middle, end[1]), end], [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    )
    width, alpha = (1.8, 1.0) if best else (0.9, 0.55 if n_links < 12 else 0.4)
    layout.axes.add_patch(PathPatch(path, fill=False, edgecolor=color, linewidth=width, alpha=alpha))


def _draw_dots(
    layout: SurvivalLayout, bracket: Bracket, rung_states: list[RungState], i: int, column: dict[int, Point]
) -> None:
    axes, view, rung_state = layout.axes, layout.view, rung_states[i]
    groups: dict[tuple[str, str], list[Point]] = {}
    for index, point in column.items():
        color = _config_color(view, bracket, rung_states, i, index)
        if index not in rung_state.scores:
            appearance = "open", MUTED
        elif is_failed(rung_state.scores[index]):
            appearance = "failed", STATUS_COLORS["failed"]
        else:
            appearance = "open" if rung_state.promoted is None else "closed", color
        groups.setdefault(appearance, []).append(point)
    for (kind, color), points in groups.items():
        marker: dict[str, Any] = {"marker": "o", "markersize": layout.marker_size, "markeredgewidth": 0}
        if kind == "failed":
            marker = {"marker": "x", "markersize": max(3.2, layout.marker_size * 0.8), "markeredgewidth": 0.9}
        elif kind == "open":
            marker = {
                "marker": "o",
                "markersize": layout.marker_size * 0.8,
                "markeredgewidth": 0.9,
                "fillstyle": "none",
            }
        elif color == STATUS_COLORS["best"]:
            marker["markersize"] = max(3.6, layout.marker_size)
        elif color == STATUS_COLORS["pruned"]:
            marker["alpha"] = 0.55
        axes.plot([x for x, _ in points], [y for _, y in points], linestyle="none", color=color, **marker)
    best = view.best
    if best and best.key[0] == bracket.s and best.key[1] in column and _is_best_rung(rung_states, i, best.epochs):
        x, y = column[best.key[1]]
        axes.plot(
            [x],
            [y],
            "o",
            color=STATUS_COLORS["best"],
            fillstyle="none",
            markersize=layout.marker_size + 4.5,
            markeredgewidth=1.2,
        )
        label = f"{config_name(best.key)}: {format_metric(view, best.value)}"
        box = {"facecolor": PAPER, "alpha": 0.9, "edgecolor": "none", "boxstyle": "square,pad=0.2"}
        axes.text(x + 0.13, y, label, fontsize=SMALL, weight="bold", color=STATUS_COLORS["best"], va="center", bbox=box)


def _is_best_rung(rung_states: list[RungState], i: int, epochs: int) -> bool:
    """Return whether the best score, reached after `epochs`, is that of rung i (the first to include it, if stopped early)."""
    return next(position for position, rung_state in enumerate(rung_states) if rung_state.rung.epochs >= epochs) == i


def _draw_legend(layout: SurvivalLayout) -> None:
    view = layout.view
    is_open = not view.study_state.finished
    entries: Sequence[tuple[str, str, str, str]] = [
        *(
            [("o", STATUS_COLORS["best"], "full", "best so far" if is_open else "best of the study")]
            if view.best
            else []
        ),
        ("o", STATUS_COLORS["complete"], "full", "promoted, or trained to the end"),
        *([("o", STATUS_COLORS["pruned"], "full", "pruned")] if "pruned" in view.statuses.values() else []),
        *([("x", STATUS_COLORS["failed"], "full", "failed")] if view.failed else []),
        *(
            [("o", STATUS_COLORS["running"], "none", "finished, rung open"), ("o", MUTED, "none", "not started")]
            if is_open
            else []
        ),
    ]
    handles = [
        Line2D([], [], linestyle="none", marker=marker, color=color, fillstyle=fill, markersize=5, label=label)  # type: ignore[arg-type]
        for marker, color, fill, label in entries
    ]
    layout.axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 1),
        ncols=len(handles),
        handletextpad=0.1,
        borderaxespad=0.1,
    )
