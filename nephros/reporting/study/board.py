"""Where things stand in the survival picture."""

from __future__ import annotations

from nephros.reporting.plots.classification import WIDE
from nephros.reporting.plots.style import place, sheet
from nephros.reporting.study.view import View
from nephros.tuning.hyperband import Bracket

_LEFT, _RIGHT, _TOP, _HEAD, _GAP, _STEP = 0.62, 0.62, 0.5, 0.5, 0.16, 1.15


class Board:
    """The drawing surface, measured in inches from its upper left corner.

    Rungs of equal epochs stand one below the other. A bracket begins a column further right than the one before it, so it
    finds room beneath the survivors of that one.
    """

    def __init__(self, view: View) -> None:
        """Lay out the brackets of a study and make the empty figure."""
        self.view = view
        columns = max(len(bracket.rungs) for bracket, _ in view.brackets)
        self.pitch = min(0.155, 4.6 / max(bracket.configs for bracket, _ in view.brackets))
        self.size = max(1.2, 72 * self.pitch * 0.62)
        self.width = max(WIDE, _LEFT + _STEP * columns + _RIGHT)
        self.step = (self.width - _LEFT - _RIGHT) / columns
        self.tops, top, height = list[float](), _TOP, 0.0
        for bracket, _ in view.brackets:
            self.tops.append(top)
            height = max(height, top + _HEAD + self.pitch * bracket.configs)
            after = bracket.rungs[1].configs if len(bracket.rungs) > 1 else 0
            top += _HEAD + self.pitch * after + _GAP
        height += 0.3
        self.figure = sheet(self.width, height, view.title)
        self.axes = place(self.figure, 0, 0, self.width, height)
        self.axes.set(xlim=(0, self.width), ylim=(height, 0))
        self.axes.set_axis_off()

    def x(self, bracket: Bracket, i: int) -> float:
        """Return where rung i stands."""
        return self.width - _RIGHT - self.step * (len(bracket.rungs) - i - 0.5)

    def y(self, top: float, row: int) -> float:
        """Return the height of a row of dots in a bracket that begins at `top`."""
        return top + _HEAD + self.pitch * (row + 0.5)

    def left(self, bracket: Bracket) -> float:
        """Return where a bracket's name begins, clear of the dots to its left."""
        return self.x(bracket, 0) - min(self.step * 0.5 + _LEFT, self.step - 0.14)
