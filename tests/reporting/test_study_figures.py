"""A study's figures: what stands where in them."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.text import Text

from nephros.reporting.study.budget import budget, random_search, spending
from nephros.reporting.study.formatting import COLOUR
from nephros.reporting.study.importance import Importance, importance, importances
from nephros.reporting.study.learning_curves import learning, limits
from nephros.reporting.study.parallel_coordinates import parallel
from nephros.reporting.study.survival_plot import flow
from nephros.reporting.study.view import View
from tests.reporting.study_simulator import Plan, simulate


def words(figure: Figure) -> list[str]:
    """Return the texts that are drawn."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible()]


def points(line: Line2D) -> list[tuple[float, float]]:
    """Return the points of a line or of a row of dots."""
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]


def test_the_survival_picture_counts_what_the_poster_drew() -> None:
    view = View(simulate(Plan(brackets="s=3")))
    figure = flow(view)
    assert {"27 for 1 epoch", "9 to 3", "3 to 9", "1 to 27", "s = 3", "81 epochs", "s3#22: 59.0 %"} <= set(
        words(figure)
    )
    axes = figure.axes[0]
    dots = len([point for line in axes.lines if line.get_marker() == "o" for point in points(line)])
    assert dots == 27 + 9 + 3 + 1 + 1  # and the ring
    lines = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
    assert len(lines) == 9 + 3 + 1


def test_ranks_run_from_the_top_and_survivors_come_first() -> None:
    view = View(simulate(Plan(brackets="s=3")))
    axes = flow(view).axes[0]
    lines = [line for line in axes.lines if line.get_marker() == "o"]
    first = min(x for line in lines for x, _ in points(line))
    colours = {y: str(line.get_color()) for line in lines for x, y in points(line) if x == first}
    order = [colours[y] for y in sorted(colours)]
    assert len(order) == 27
    assert set(order[:9]) == {COLOUR["best"], COLOUR["finished"]}
    assert set(order[9:]) == {COLOUR["eliminated"]}


def test_an_open_rung_failures_and_rungs_to_come_are_told_apart() -> None:
    figure = flow(View(simulate(Plan(fail=0.12), 130)))
    said = words(figure)
    assert {"2 of 4 through", "to come", "failed", "through, rung open", "best so far"} <= set(said)
    assert any(line.get_marker() == "x" for line in figure.axes[0].lines)


def test_nothing_in_a_survival_picture_leaves_it() -> None:
    for plan in (
        Plan(),
        Plan(max_epochs=81),
        Plan(max_epochs=64, eta=2),
        Plan(max_epochs=1),
        Plan(max_epochs=9, fail=1),
    ):
        figure = flow(View(simulate(plan)))
        figure.canvas.draw()
        width, height = figure.get_size_inches() * figure.dpi
        legend = figure.axes[0].get_legend()
        assert legend is not None
        for drawn in (*figure.axes[0].texts, legend):
            box = drawn.get_window_extent()
            assert (box.x0 >= 0, box.y0 >= 0, box.x1 <= width, box.y1 <= height) == (True,) * 4, drawn


def test_every_bracket_has_its_panel_of_curves() -> None:
    view = View(simulate(Plan()))
    figure = learning(view)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["s = 3", "s = 2", "s = 1", "s = 0"]
    curves = [line for axes in figure.axes for line in axes.lines if line.get_linestyle() != "None"]
    rungs = sum(len(bracket.rungs) for bracket, _ in view.brackets)
    assert len(curves) == len(view.configs) + rungs
    assert [line.get_color() for line in curves].count(COLOUR["best"]) == 1


def test_a_loss_that_went_astray_does_not_flatten_the_rest() -> None:
    view = View(simulate(Plan(metric="val_loss")))
    low, high, above = limits(view)
    assert high < 3
    assert above > 0
    assert low < min(value for config in view.configs for value in config.values.values())
    assert any("above the picture" in text for text in words(learning(view)))
    assert limits(View(simulate(Plan(), 0))) == (0.0, 1.0, 0)


def test_parallel_coordinates_have_an_axis_a_field_and_a_line_a_configuration() -> None:
    view = View(simulate(Plan()))
    figure = parallel(view)
    said = words(figure)
    for name in ("optimizer\nlr", "model\nhidden", "batch size", "epochs\ntrained", "validation\naccuracy"):
        assert name in said
    assert {"sgd", "adamw", "100, 50", "300, 150", "0.01", "0.001", "0.3", "4", "5", "not used"} <= set(said)
    lines = [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]
    assert len(lines) == 49
    assert lines[-1].get_edgecolor() == pytest.approx((180 / 255, 81 / 255, 15 / 255, 1))  # the best, in front


def test_random_search_is_drawn_at_equal_epochs_with_its_number_of_configurations() -> None:
    view = View(simulate(Plan()))
    figure = budget(view, spending(view), random_search(view))
    line = next(line for line in figure.axes[0].lines if "random search" in str(line.get_label()))
    assert [x for x, _ in points(line)] == [27, 54, 81, 108]
    assert "random search: expected best, from 4 configurations" in words(figure)
    without = budget(view, spending(view), "Random search is not drawn.")
    assert not any("random search" in text for text in words(without))


def test_importance_marks_what_is_more_than_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nephros.reporting.study.importance.SHUFFLES", 2)
    found = importance(View(simulate(Plan())))
    assert isinstance(found, Importance)
    figure = importances(found, "Cells, own split")
    assert f"{100 * found.shares['optimizer.lr']:.0f} %" in words(figure)
    assert "Cells, own split" in words(figure)
    assert len(figure.axes[0].patches) == len(found.shares)
