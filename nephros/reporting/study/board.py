"""Where things stand in the survival picture."""

from __future__ import annotations

from nephros.reporting.plots.classification import PAGE_WIDTH
from nephros.reporting.plots.style import add_axes, new_figure
from nephros.reporting.study.view import StudyView
from nephros.tuning.hyperband import Bracket

_LEFT, _RIGHT, _TOP, _HEADER, _GAP, _MIN_COLUMN_WIDTH = 0.62, 0.62, 0.5, 0.5, 0.16, 1.15


class SurvivalLayout:
    """The drawing surface, measured in inches from its upper left corner.

    Rungs of equal epochs stand one below the other. A bracket begins a column further right than the one before it, so it
    finds room beneath the survivors of that one.
    """

    def __init__(self, view: StudyView) -> None:
        """Lay out the brackets of a study and make the empty figure."""
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
        self.figure = new_figure(self.width, height, view.title)
        self.axes = add_axes(self.figure, 0, 0, self.width, height)
        self.axes.set(xlim=(0, self.width), ylim=(height, 0))
        self.axes.set_axis_off()

    def x(self, bracket: Bracket, i: int) -> float:
        """Return where rung i stands."""
        return self.width - _RIGHT - self.column_width * (len(bracket.rungs) - i - 0.5)

    def y(self, top: float, row: int) -> float:
        """Return the height of a row of dots in a bracket that begins at `top`."""
        return top + _HEADER + self.row_height * (row + 0.5)

    def label_x(self, bracket: Bracket) -> float:
        """Return where a bracket's name begins, clear of the dots to its left."""
        return self.x(bracket, 0) - min(self.column_width * 0.5 + _LEFT, self.column_width - 0.14)
