"""A study's figures: their contents and layout."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.text import Text

from nephros.reporting.study.budget import compute_budget_curve, estimate_random_baseline, plot_budget_curve
from nephros.reporting.study.formatting import STATUS_COLORS
from nephros.reporting.study.importance import Importance, compute_importance, plot_importance
from nephros.reporting.study.learning_curves import plot_learning_curves, value_limits
from nephros.reporting.study.parallel_coordinates import metric_ticks, plot_parallel_coordinates
from nephros.reporting.study.survival_plot import plot_survival
from nephros.reporting.study.view import StudyView
from tests.reporting.study_simulator import SimulationConfig, simulate


def drawn_texts(figure: Figure) -> list[str]:
    """Return the visible texts."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible()]


def line_points(line: Line2D) -> list[tuple[float, float]]:
    """Return the points of a line or a row of dots."""
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]


def test_the_survival_plot_shows_the_posters_counts() -> None:
    view = StudyView(simulate(SimulationConfig(brackets="s=3")))
    figure = plot_survival(view)
    assert {
        "27 for 1 epoch",
        "9 to 3 epochs",
        "3 to 9 epochs",
        "1 to 27 epochs",
        "s = 3",
        "81 epochs",
        "s3#22: 59.0%",
    } <= set(drawn_texts(figure))
    axes = figure.axes[0]
    dots = len([point for line in axes.lines if line.get_marker() == "o" for point in line_points(line)])
    assert dots == 27 + 9 + 3 + 1 + 1  # the last one is the ring around the best
    lines = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
    assert len(lines) == 9 + 3 + 1


def test_ranks_run_from_the_top_and_survivors_come_first() -> None:
    view = StudyView(simulate(SimulationConfig(brackets="s=3")))
    axes = plot_survival(view).axes[0]
    lines = [line for line in axes.lines if line.get_marker() == "o"]
    first = min(x for line in lines for x, _ in line_points(line))
    colors = {y: str(line.get_color()) for line in lines for x, y in line_points(line) if x == first}
    order = [colors[y] for y in sorted(colors)]
    assert len(order) == 27
    assert set(order[:9]) == {STATUS_COLORS["best"], STATUS_COLORS["complete"]}
    assert set(order[9:]) == {STATUS_COLORS["pruned"]}


def test_open_rungs_failures_and_rungs_not_started_are_distinguished() -> None:
    figure = plot_survival(StudyView(simulate(SimulationConfig(fail_rate=0.12), 130)))
    texts = drawn_texts(figure)
    assert {"2 of 4 finished", "not started", "failed", "finished, rung open", "best so far"} <= set(texts)
    assert any(line.get_marker() == "x" for line in figure.axes[0].lines)


@pytest.mark.parametrize(
    "plan",
    [
        SimulationConfig(),
        SimulationConfig(max_epochs=81),
        SimulationConfig(max_epochs=64, eta=2),
        SimulationConfig(max_epochs=1),
        SimulationConfig(max_epochs=9, fail_rate=1),
    ],
)
def test_everything_in_a_survival_plot_is_within_it(plan: SimulationConfig) -> None:
    figure = plot_survival(StudyView(simulate(plan)))
    figure.canvas.draw()
    width, height = figure.get_size_inches() * figure.dpi
    legend = figure.axes[0].get_legend()
    assert legend is not None
    for artist in (*figure.axes[0].texts, legend):
        box = artist.get_window_extent()
        assert (box.x0 >= 0, box.y0 >= 0, box.x1 <= width, box.y1 <= height) == (True,) * 4, artist


def test_every_bracket_has_a_panel_of_learning_curves() -> None:
    view = StudyView(simulate(SimulationConfig()))
    figure = plot_learning_curves(view)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["s = 3", "s = 2", "s = 1", "s = 0"]
    curves = [line for axes in figure.axes for line in axes.lines if line.get_linestyle() != "None"]
    rungs = sum(len(bracket.rungs) for bracket, _ in view.brackets)
    assert len(curves) == len(view.configs) + rungs
    assert [line.get_color() for line in curves].count(STATUS_COLORS["best"]) == 1


def test_a_diverged_loss_does_not_flatten_the_rest() -> None:
    view = StudyView(simulate(SimulationConfig(metric="val_loss")))
    low, high, above = value_limits(view)
    assert high < 3
    assert above > 0
    assert low < min(value for config in view.configs for value in config.values.values())
    assert any("above the plot" in text for text in drawn_texts(plot_learning_curves(view)))
    assert value_limits(StudyView(simulate(SimulationConfig(), 0))) == (0.0, 1.0, 0)


def test_parallel_coordinates_have_an_axis_per_field_and_a_line_per_configuration() -> None:
    view = StudyView(simulate(SimulationConfig()))
    figure = plot_parallel_coordinates(view)
    texts = drawn_texts(figure)
    for name in ("optimizer\nlr", "model\nhidden", "batch size", "epochs\ntrained", "validation\naccuracy"):
        assert name in texts
    assert {"sgd", "adamw", "100, 50", "300, 150", "0.01", "0.001", "0.3", "4", "5", "not used"} <= set(texts)
    lines = [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]
    assert len(lines) == 49
    assert lines[-1].get_edgecolor() == pytest.approx((180 / 255, 81 / 255, 15 / 255, 1))  # the best, in front


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
@pytest.mark.parametrize(("low", "high"), [(0.42, 0.505), (0.2, 0.7), (0.61, 0.617), (0.9401, 0.9409), (1.02, 1.93)])
def test_tick_labels_of_the_metric_are_at_even_steps(metric: str, low: float, high: float) -> None:
    view = StudyView(simulate(SimulationConfig(max_epochs=3, metric=metric)))
    ticks = metric_ticks(view, low, high)
    assert len(ticks) >= 3
    scale = 100 if metric == "val_accuracy" else 1
    numbers = [float(label.rstrip("%")) for _, label in ticks]
    assert numbers == pytest.approx([scale * tick for tick, _ in ticks], abs=1e-9)
    assert np.diff(numbers) == pytest.approx([numbers[1] - numbers[0]] * (len(numbers) - 1))


@pytest.mark.parametrize(("low", "high"), [(3, 6), (3, 12), (1, 18), (2, 25), (0, 100), (3, 26), (5, 6)])
def test_whole_numbers_are_labeled_at_even_steps(low: int, high: int) -> None:
    plan = SimulationConfig(max_epochs=3, space={"schedule.patience": {"low": low, "high": high}})
    figure = plot_parallel_coordinates(StudyView(simulate(plan)))
    labels = [text for text in figure.axes[0].texts if text.get_position()[0] == pytest.approx(0.06)]
    numbers = [int(text.get_text()) for text in labels]
    assert (numbers[0], numbers[-1]) == (low, high)
    assert len(set(np.diff(numbers))) == 1
    heights = [text.get_position()[1] for text in labels]
    assert heights == pytest.approx([(number - low) / (high - low) for number in numbers])


def test_random_search_is_plotted_at_equal_epochs_with_its_number_of_configurations() -> None:
    view = StudyView(simulate(SimulationConfig()))
    figure = plot_budget_curve(view, compute_budget_curve(view), estimate_random_baseline(view))
    line = next(line for line in figure.axes[0].lines if "random search" in str(line.get_label()))
    assert [x for x, _ in line_points(line)] == [27, 54, 81, 108]
    assert "random search: expected best, from 4 configurations" in drawn_texts(figure)
    without = plot_budget_curve(view, compute_budget_curve(view), "Random search is not shown.")
    assert not any("random search" in text for text in drawn_texts(without))


def test_importance_marks_fields_above_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nephros.reporting.study.importance.N_SHUFFLES", 2)
    importance = compute_importance(StudyView(simulate(SimulationConfig())))
    assert isinstance(importance, Importance)
    figure = plot_importance(importance, "Cells, own split")
    assert f"{100 * importance.shares['optimizer.lr']:.0f}%" in drawn_texts(figure)
    assert "Cells, own split" in drawn_texts(figure)
    assert len(figure.axes[0].patches) == len(importance.shares)
