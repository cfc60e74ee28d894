"""The survival picture: every bracket's rungs from left to right, a dot a configuration, the best on top."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from nephros.reporting.plots.style import INK, LINE, MUTED, PAPER, styled
from nephros.reporting.study.board import Board
from nephros.reporting.study.formatting import COLOUR, counted, named, shown
from nephros.reporting.study.view import View, planned
from nephros.tuning.hyperband import Bracket, Standing, failed, ranked

Point = tuple[float, float]


@styled
def flow(view: View) -> Figure:
    """Draw who went on at each rung of each bracket: ranks from the top, survivors joined from rung to rung."""
    board = Board(view)
    for (bracket, found), top in zip(view.brackets, board.tops, strict=True):
        _bracket(board, bracket, found, top)
    _legend(board)
    return board.figure


def _bracket(board: Board, bracket: Bracket, found: list[Standing], top: float) -> None:
    axes, done = board.axes, sum(ending.spent for ending in board.view.endings if ending.key[0] == bracket.s)
    left = board.left(bracket)
    axes.plot([left, board.width - 0.05], [top - 0.05] * 2, color=LINE, linewidth=0.7)
    axes.text(left, top + 0.14, f"s = {bracket.s}", weight="bold", fontsize=8, va="center")
    is_open = found[-1].promoted is None
    for line, words in enumerate(
        [f"{done:,} of {bracket.epochs:,}", "epochs"] if is_open else [counted(done, "epoch")]
    ):
        axes.text(left, top + 0.29 + 0.13 * line, words, fontsize=6.5, color=MUTED, va="center")
    places = [_column(board, bracket, i, standing, top) for i, standing in enumerate(found)]
    for i, (before, after) in enumerate(itertools.pairwise(places)):
        for index in sorted(after, key=lambda index: board.view.fates[bracket.s, index] == "best"):
            _join(board, before[index], after[index], _colour(board.view, bracket, found, i, index), len(after))
    for i, column in enumerate(places):
        _head(board, bracket, i, found[i], top)
        _dots(board, bracket, found, i, column)
    for i, rung in enumerate(planned(bracket, found), len(found)):
        _title(board, board.x(bracket, i), top, _words(rung.configs, rung.epochs, i), ["to come"], MUTED)
        rows = [board.y(top, row) for row in range(rung.configs)]
        axes.plot(
            [board.x(bracket, i)] * len(rows), rows, "o", color=LINE, markersize=board.size * 0.6, markeredgewidth=0
        )


def _column(board: Board, bracket: Bracket, i: int, standing: Standing, top: float) -> dict[int, Point]:
    """Return where each member of rung i stands: the best on top, the failed below, those not through at the bottom."""
    order = ranked([standing.scores.get(index) for index in standing.members])
    members = sorted((standing.members[at] for at in order), key=lambda index: index not in standing.scores)
    return {index: (board.x(bracket, i), board.y(top, row)) for row, index in enumerate(members)}


def _words(configs: int, epochs: int, i: int) -> str:
    return f"{configs} for {counted(epochs, 'epoch')}" if i == 0 else f"{configs} to {epochs}"


def _head(board: Board, bracket: Bracket, i: int, standing: Standing, top: float) -> None:
    view, scores = board.view, standing.scores
    if standing.promoted is None:
        said = [f"{len(scores)} of {len(standing.members)} through"]
    else:
        good = sorted(score for score in scores.values() if score is not None and not failed(score))
        said = [f"best {shown(view, view.value(good[-1]))}"] if good else ["all failed"]
        if standing.promoted and len(good) > len(standing.promoted):
            said.append(f"cut at {shown(view, view.value(scores[standing.promoted[-1]]))}")
    _title(board, board.x(bracket, i), top, _words(len(standing.members), standing.rung.epochs, i), said, INK)


def _title(board: Board, x: float, top: float, words: str, said: list[str], colour: str) -> None:
    weight = "bold" if colour == INK else "normal"
    board.axes.text(x, top + 0.14, words, fontsize=7.5, weight=weight, color=colour, ha="center", va="center")
    for line, more in enumerate(said):
        board.axes.text(x, top + 0.28 + 0.13 * line, more, fontsize=6.5, color=MUTED, ha="center", va="center")


def _colour(view: View, bracket: Bracket, found: list[Standing], i: int, index: int) -> str:
    """Return the colour of a configuration at rung i: the best's own, the one of who went on, or of who did not."""
    if view.best and view.best.key == (bracket.s, index):
        return COLOUR["best"]
    promoted = found[i].promoted
    on = promoted is None or index in promoted or i == len(bracket.rungs) - 1
    return COLOUR["finished" if on else "eliminated"]


def _join(board: Board, start: Point, end: Point, colour: str, crowd: int) -> None:
    best = colour == COLOUR["best"]
    middle = (start[0] + end[0]) / 2
    path = Path(
        [start, (middle, start[1]), (middle, end[1]), end], [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    )
    width, alpha = (1.8, 1.0) if best else (0.9, 0.55 if crowd < 12 else 0.4)
    board.axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=width, alpha=alpha))


def _dots(board: Board, bracket: Bracket, found: list[Standing], i: int, column: dict[int, Point]) -> None:
    axes, view, standing = board.axes, board.view, found[i]
    groups: dict[tuple[str, str], list[Point]] = {}
    for index, point in column.items():
        colour = _colour(view, bracket, found, i, index)
        if index not in standing.scores:
            look = "open", MUTED
        elif failed(standing.scores[index]):
            look = "failed", COLOUR["failed"]
        else:
            look = "open" if standing.promoted is None else "closed", colour
        groups.setdefault(look, []).append(point)
    for (kind, colour), points in groups.items():
        marker: dict[str, Any] = {"marker": "o", "markersize": board.size, "markeredgewidth": 0}
        if kind == "failed":
            marker = {"marker": "x", "markersize": max(3.2, board.size * 0.8), "markeredgewidth": 0.9}
        elif kind == "open":
            marker = {"marker": "o", "markersize": board.size * 0.8, "markeredgewidth": 0.9, "fillstyle": "none"}
        elif colour == COLOUR["best"]:
            marker["markersize"] = max(3.6, board.size)
        elif colour == COLOUR["eliminated"]:
            marker["alpha"] = 0.55
        axes.plot([x for x, _ in points], [y for _, y in points], linestyle="none", color=colour, **marker)
    best = view.best
    if best and best.key[0] == bracket.s and best.key[1] in column and _holds(found, i, best.epochs):
        x, y = column[best.key[1]]
        axes.plot(
            [x], [y], "o", color=COLOUR["best"], fillstyle="none", markersize=board.size + 4.5, markeredgewidth=1.2
        )
        said = f"{named(best.key)}: {shown(view, best.value)}"
        box = {"facecolor": PAPER, "alpha": 0.9, "edgecolor": "none", "boxstyle": "square,pad=0.2"}
        axes.text(x + 0.13, y, said, fontsize=6.8, weight="bold", color=COLOUR["best"], va="center", bbox=box)


def _holds(found: list[Standing], i: int, epochs: int) -> bool:
    """Return whether the best score, had after `epochs`, is that of rung i (the first one to hold it, after an early stop)."""
    return next(at for at, standing in enumerate(found) if standing.rung.epochs >= epochs) == i


def _legend(board: Board) -> None:
    view = board.view
    is_open = not view.records.over
    now: Sequence[tuple[str, str, str, str]] = [
        *([("o", COLOUR["best"], "full", "best so far" if is_open else "best of the study")] if view.best else []),
        ("o", COLOUR["finished"], "full", "went on, or came to the end"),
        *([("o", COLOUR["eliminated"], "full", "eliminated")] if "eliminated" in view.fates.values() else []),
        *([("x", COLOUR["failed"], "full", "failed")] if view.failed else []),
        *([("o", COLOUR["running"], "none", "through, rung open"), ("o", MUTED, "none", "to come")] if is_open else []),
    ]
    handles = [
        Line2D([], [], linestyle="none", marker=marker, color=colour, fillstyle=fill, markersize=5, label=words)  # type: ignore[arg-type]
        for marker, colour, fill, words in now
    ]
    board.axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 1),
        ncols=len(handles),
        handletextpad=0.1,
        borderaxespad=0.1,
    )
