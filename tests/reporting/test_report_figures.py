"""Content of the figures: axes, texts and counts, for 2, 8 and 11 classes and where a class is missing."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from nephros.evaluation.leaderboard import LeaderboardRow, leaderboard
from nephros.evaluation.metrics import calibration_curve
from nephros.evaluation.scoring import Evaluation
from nephros.recipe import AugmentConfig, ModelConfig, Recipe
from nephros.reporting.plots import classification, training_curves
from nephros.reporting.plots.accuracy_charts import plot_leaderboard
from nephros.reporting.plots.ranking_curves import plot_ranking_curves, thin_curve
from nephros.reporting.plots.style import DARK_COLORS, LIGHT_COLORS, whole_percent, wrap_label
from nephros.training.history import EpochMetrics
from tests.ui.contrast import contrast_ratio, relative_luminance

Make = Callable[..., Evaluation]
TITLE = "Example cells, synthetic"


def texts(figure: Figure) -> list[str]:
    """Return every non-empty text of a figure, tick labels included."""
    figure.draw_without_rendering()
    strings = [artist.get_text() for artist in figure.findobj(Text)]
    return [text for text in strings if text]


def class_names(classes: int) -> list[str]:
    return [f"kind {c}" for c in range(classes)]


def history(n: int) -> list[EpochMetrics]:
    return [
        EpochMetrics(e, 0.1 / e, 2.0 / e, 0.1 * e, 1.9 / e, 0.12 * e, 0.3, 0.8, 1.0, 900.0) for e in range(1, n + 1)
    ]


def test_class_balance_prints_counts_and_shares() -> None:
    figure = classification.plot_class_balance(
        {"train": [30, 10], "val": [4, 0], "test": [6, 2]}, class_names(2), TITLE
    )
    strings = texts(figure)
    assert "30" in strings
    assert "none" in strings
    assert "train\n40" in strings
    assert "val.\n4" in strings
    assert TITLE in strings
    bars = figure.axes[0].patches
    assert [round(bar.get_width(), 2) for bar in bars] == [0.75, 0.25, 1.0, 0.0, 0.75, 0.25]  # type: ignore[attr-defined]


@pytest.mark.parametrize("classes", [2, 8, 11])
def test_confusion_matrix_prints_every_count_and_share(evaluation: Make, classes: int) -> None:
    matrix = np.array(evaluation(classes).metrics.confusion_matrix)
    figure = classification.plot_confusion_matrix(matrix, class_names(classes), "val", TITLE)
    axes = figure.axes[0]
    cells = {
        (int(t.get_position()[0]), int(t.get_position()[1]), t.get_verticalalignment()): t.get_text()
        for t in axes.texts
    }
    assert len(axes.texts) == 2 * classes**2
    for row in range(classes):
        for column in range(classes):
            assert cells[column, row, "top"] == f"{matrix[row, column]:,}"
            assert cells[column, row, "bottom"] == whole_percent(matrix[row, column] / matrix[row].sum())
    patches = np.array(axes.patches).reshape(classes, classes)
    depth = np.array([[patch.get_alpha() for patch in row] for row in patches])
    assert (depth.argmax(axis=1) == matrix.argmax(axis=1)).all()
    hues = {
        (row == column, to_hex(axes.patches[row * classes + column].get_facecolor()))
        for row, column in np.ndindex(patches.shape)
    }
    assert hues == {(True, LIGHT_COLORS["right"]), (False, LIGHT_COLORS["wrong"])}
    assert TITLE in texts(figure)


def test_confusion_matrix_says_which_class_has_no_cells(evaluation: Make) -> None:
    matrix = np.array(evaluation(4, missing=2).metrics.confusion_matrix)
    figure = classification.plot_confusion_matrix(matrix, class_names(4), "test", TITLE)
    assert texts(figure).count("no images in test") == 1
    assert len(figure.axes[0].texts) == 2 * 12 + 1


@pytest.mark.parametrize("theme", [LIGHT_COLORS, DARK_COLORS], ids=["light", "dark"])
@pytest.mark.parametrize("hue", ["right", "wrong"])
def test_text_on_every_shade_of_the_matrix_is_legible(theme: dict[str, str], hue: str) -> None:
    shades = np.linspace(0, 1, 201)
    paper, ink, full = (np.array(to_rgb(theme[name])) for name in ("paper", "ink", hue))
    for share in shades:
        opacity = classification.cell_opacity(share)
        background = opacity * full + (1 - opacity) * paper
        text = paper if share >= 0.5 else ink
        colors = ["rgb({})".format(", ".join(str(255 * c) for c in color)) for color in (background, text)]
        assert contrast_ratio(*map(relative_luminance, colors)) >= 4.5, share
    assert [classification.cell_opacity(share) for share in (0, 1)] == [0.03, 1]
    assert (np.diff([classification.cell_opacity(share) for share in shades]) > 0).all()


@pytest.mark.parametrize("classes", [2, 8, 11, 30])
def test_each_class_has_a_roc_and_a_precision_recall_curve_with_their_areas(evaluation: Make, classes: int) -> None:
    result = evaluation(classes)
    figure = plot_ranking_curves(result, class_names(classes), "test", TITLE)
    assert len(figure.axes) == 2 * classes
    assert [text.get_text() for text in figure.texts][1:] == class_names(classes)
    for c, (roc, pr) in enumerate(zip(figure.axes[::2], figure.axes[1::2], strict=True)):
        row = result.metrics.per_class[c]
        assert [text.get_text() for text in roc.texts] == [f"AUC {row.auc:.3f}"]
        assert [text.get_text() for text in pr.texts] == [f"PR-AUC {row.pr_auc:.3f}"]
        x, y = (np.asarray(values) for values in roc.lines[1].get_data())
        assert np.trapezoid(y, x) == pytest.approx(row.auc, abs=0.02)
        recall, precision = (np.asarray(values) for values in pr.lines[1].get_data())
        assert (np.diff(recall) * precision[1:]).sum() == pytest.approx(row.pr_auc, abs=0.03)
        share = (result.labels == c).mean()
        assert list(np.asarray(pr.lines[0].get_ydata())) == [share, share]


def test_ranking_curves_say_which_class_is_missing(evaluation: Make) -> None:
    figure = plot_ranking_curves(evaluation(8, missing=3), class_names(8), "val", TITLE)
    assert [len(axes.lines) for axes in figure.axes] == [2] * 6 + [0, 0] + [2] * 8
    assert texts(figure).count("no images\nin validation") == 2


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 8, 11, 30])
def test_no_text_of_a_figure_is_below_eleven_pixels(evaluation: Make, classes: int) -> None:
    result, names = evaluation(classes), class_names(classes)
    for figure in (
        classification.plot_confusion_matrix(np.array(result.metrics.confusion_matrix), names, "val", TITLE),
        classification.plot_class_balance({"train": [1] * classes, "val": [2] * classes}, names, TITLE),
        classification.plot_reliability_diagram(calibration_curve(result.probabilities, result.labels), "test", TITLE),
        plot_ranking_curves(result, names, "test", TITLE),
        training_curves.plot_learning_curves(history(6), TITLE),
        plot_leaderboard(leaderboard([]), "test", TITLE),
    ):
        figure.draw_without_rendering()
        sizes = [float(artist.get_fontsize()) for artist in figure.findobj(Text) if artist.get_text()]
        assert min(sizes) * 112 / 72 >= 11


def test_thinned_curves_keep_their_ends_and_area() -> None:
    x = np.linspace(0, 1, 20_000)
    y = x**0.2
    few_x, few_y = thin_curve(x, y)
    assert len(few_x) <= 200
    assert (few_x[0], few_x[-1], few_y[0], few_y[-1]) == (0, 1, 0, 1)
    assert np.trapezoid(few_y, few_x) == pytest.approx(np.trapezoid(y, x), abs=2e-4)


def test_reliability_diagram_draws_the_bins_that_hold_cells(evaluation: Make) -> None:
    bins = calibration_curve(evaluation(3).probabilities, evaluation(3).labels)
    filled_bins = [b for b in bins if b.count]
    figure = classification.plot_reliability_diagram(bins, "test", TITLE)
    above, below = figure.axes
    assert [text.get_text() for text in below.texts] == [str(b.count) for b in filled_bins]
    assert [bar.get_height() for bar in above.patches] == [b.accuracy for b in filled_bins]  # type: ignore[attr-defined]
    assert list(np.asarray(above.lines[1].get_xdata())) == [b.confidence for b in filled_bins]
    assert sum(b.count for b in filled_bins) == 400
    assert TITLE in texts(figure)


def test_learning_curves_mark_the_checkpoint_and_its_train_metrics(evaluation: Make) -> None:
    train_metrics = evaluation(3).metrics
    running = "train, during the epoch"
    figure = training_curves.plot_learning_curves(
        history(6), TITLE, running, chosen_epoch=4, train_metrics=train_metrics
    )
    assert len(figure.axes) == 3
    by_label = {str(line.get_label()): line for line in figure.axes[0].lines}
    assert list(np.asarray(by_label[running].get_ydata())) == [row.train_accuracy for row in history(6)]
    assert list(np.asarray(by_label["validation"].get_ydata())) == [row.val_accuracy for row in history(6)]
    point = by_label["train, evaluated with the checkpoint"]
    assert (list(np.asarray(point.get_xdata())), list(np.asarray(point.get_ydata()))) == ([4], [train_metrics.accuracy])
    assert list(np.asarray(by_label["checkpoint (epoch 4)"].get_xdata())) == [4]
    strings = texts(figure)
    assert running in strings
    assert TITLE in strings
    assert {"Accuracy", "Loss (nats per image)", "Learning rate"} <= set(strings)


def test_learning_curves_of_an_unfinished_run_mark_nothing() -> None:
    figure = training_curves.plot_learning_curves(history(1), TITLE)
    assert len(figure.axes[0].lines) == 2
    assert _ticks(figure.axes[0]) == [1]


def _ticks(axes: Axes) -> list[float]:
    low, high = axes.get_xlim()
    return [float(tick) for tick in axes.get_xticks() if low <= tick <= high]


def test_the_label_of_training_curves_names_the_regularization() -> None:
    both = Recipe(augment=AugmentConfig(shift=2), model=ModelConfig(dropout=0.5))
    assert training_curves.train_curve_label(both) == "train, during the epoch (augmented, with dropout)"
    assert training_curves.train_curve_label(Recipe()) == "train, during the epoch"


def test_leaderboard_ranks_the_run_among_published_results() -> None:
    run_row = LeaderboardRow(
        "this run: x", "28", 0.69, "own test", "this report", low=0.68, high=0.70, auc=0.93, is_run=True
    )
    rows = leaderboard([run_row])
    assert len(rows) == 15
    assert [row.accuracy for row in rows] == sorted((row.accuracy for row in rows), reverse=True)
    figure = plot_leaderboard(rows, "test", TITLE)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[rows.index(run_row)] == "this run: x · 28 px"
    assert "AutoKeras · 28 px" in labels
    assert "DenseNet-121, ImageNet weights · 28 px, zero-padded to 224" in labels
    colors = [label.get_color() for label in figure.axes[0].get_yticklabels()]
    assert colors.count(LIGHT_COLORS["test"]) == 1
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    for dot, row in zip(dots, rows, strict=True):
        filled = dot.get_markerfacecolor() == dot.get_color()
        assert filled == row.split.startswith("official"), row.method
    assert TITLE in texts(figure)


def test_drawing_leaves_the_callers_settings_alone(evaluation: Make) -> None:
    before = dict(matplotlib.rcParams)
    plot_ranking_curves(evaluation(2), class_names(2), "test", TITLE)
    assert dict(matplotlib.rcParams) == before


def test_names_are_wrapped_evenly_and_dollars_are_not_formulas(evaluation: Make) -> None:
    assert wrap_label("Collecting Duct, Connecting Tubule", 25) == "Collecting Duct,\nConnecting Tubule"
    assert wrap_label("a", 25) == "a"
    assert wrap_label(" ".join(["word"] * 40), 20, 2).endswith("…")
    figure = classification.plot_class_balance({"train": [1, 2]}, ["$x^$", "_{"], TITLE)
    assert "$x^$" in texts(figure)


def test_small_percentages_are_distinct_from_zero() -> None:
    assert [whole_percent(share) for share in (0, 0.001, 0.32, 1)] == ["0%", "<1%", "32%", "100%"]


@pytest.mark.parametrize(("last", "scale"), [(0.1, "linear"), (0.001, "log"), (1e-6, "linear")])
def test_step_learning_rates_are_on_a_log_scale_with_plain_numbers(last: float, scale: str) -> None:
    rows = [
        EpochMetrics(n, rate, 1.0, 0.5, 1.0, 0.5, 0.5, 0.5, 1.0, 1.0)
        for n, rate in enumerate((0.1, 0.1, last), start=1)
    ]
    figure = training_curves.plot_learning_curves(rows, TITLE)
    assert figure.axes[2].get_yscale() == scale
    assert not any("mathdefault" in text for text in texts(figure))
