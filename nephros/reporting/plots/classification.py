"""Plots of a classifier's data and predictions: class balance, confusion matrix, ROC curves, reliability diagram.

From data to a figure, without files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from nephros.data.dataset import SPLIT_ADJECTIVES
from nephros.evaluation.metrics import CalibrationBin, class_roc_curve, expected_calibration_error
from nephros.evaluation.scoring import Evaluation
from nephros.reporting.plots.style import (
    INK,
    LIGHT_COLORS,
    LINE,
    MUTED,
    PAGE_WIDTH,
    PAPER,
    add_axes,
    new_figure,
    percent_axis,
    whole_percent,
    with_style,
    wrap_label,
)

_MAX_CURVE_POINTS = 160


@with_style
def plot_class_balance(counts: Mapping[str, Sequence[int]], class_names: Sequence[str], title: str) -> Figure:
    """Plot each class's share of every split as bars, labeled with count and share.

    Args:
        counts: split name (train, val, test) -> images per class.
        class_names: names of the classes.
        title: the data's title.
    """
    bar_height, gap, splits = 0.17, 0.16, list(counts)
    group_height = bar_height * len(splits) + gap
    height = 0.4 + group_height * len(class_names) + 0.6
    figure = new_figure(PAGE_WIDTH, height, title)
    axes = add_axes(figure, 1.85, 0.4, PAGE_WIDTH - 1.85 - 1.1, group_height * len(class_names))
    for row, split in enumerate(splits):
        total = max(1, sum(counts[split]))
        shares = [count / total for count in counts[split]]
        centers = [group_height * c + gap / 2 + bar_height * (row + 0.5) for c in range(len(class_names))]
        axes.barh(
            centers,
            shares,
            height=bar_height * 0.82,
            color=LIGHT_COLORS[split],
            label=f"{SPLIT_ADJECTIVES[split]}, {sum(counts[split]):,} images",
        )
        for center, share, count in zip(centers, shares, counts[split], strict=True):
            text = f"{count:,} · {100 * share:.1f}%" if count else "none"
            axes.annotate(
                text,
                (share, center),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
                color=LIGHT_COLORS[split],
            )
    axes.set_ylim(group_height * len(class_names), 0)
    axes.set_xlim(0, None)
    axes.margins(x=0)
    _label_rows(axes, class_names, [group_height * (c + 0.5) for c in range(len(class_names))], 25)
    _percent_axis(axes, "x")
    axes.set_xlabel("share of the split")
    axes.spines["left"].set_visible(False)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=len(splits), borderaxespad=0.3, handlelength=1, handleheight=1
    )
    return figure


@with_style
def plot_confusion_matrix(matrix: NDArray[np.int64], class_names: Sequence[str], split: str, title: str) -> Figure:
    """Plot a confusion matrix, shaded by the share of the row; each cell holds share and count.

    Args:
        matrix: (classes, classes) counts; row = actual, column = predicted. A row may be empty.
        class_names: names of the classes.
        split: train, val or test; sets the color.
        title: the data's title.
    """
    n_classes = len(class_names)
    side = min(1.3, max(0.36, 4.95 / n_classes))
    left, top = 1.95, 1.15
    width, height = max(5.6, left + side * n_classes + 0.6), top + side * n_classes + 0.5
    figure = new_figure(width, height, title)
    axes = add_axes(figure, left, top, side * n_classes, side * n_classes)
    _draw_matrix_cells(axes, matrix, split, font_size=min(9.0, 3 + side * 7.5))
    axes.set_xlim(0, n_classes)
    axes.set_ylim(n_classes, 0)
    axes.hlines(range(n_classes + 1), 0, n_classes, color=PAPER, linewidth=1.5)
    axes.vlines(range(n_classes + 1), 0, n_classes, color=PAPER, linewidth=1.5)
    _label_rows(axes, class_names, [c + 0.5 for c in range(n_classes)], 25, counts=matrix.sum(axis=1))
    axes.xaxis.tick_top()
    rotated = side < 0.95
    labels = [wrap_label(name, 20 if rotated else 13) for name in class_names]
    axes.set_xticks([c + 0.5 for c in range(n_classes)], labels, color=INK, fontsize=7)
    if rotated:
        for label in axes.get_xticklabels():
            label.set(rotation=32, ha="left", rotation_mode="anchor")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.text(left / width, 0.25 / height, "rows: actual class · columns: predicted class", fontsize=7, color=MUTED)
    return figure


def _draw_matrix_cells(axes: Axes, matrix: NDArray[np.int64], split: str, font_size: float) -> None:
    """Draw each cell of a confusion matrix, shaded by the share of its row; an empty row says that it has no cells."""
    totals = matrix.sum(axis=1)
    for (row, column), share in np.ndenumerate(matrix / np.maximum(totals, 1)[:, None]):
        alpha = 0.03 + 0.53 * float(share)  # no darker, so that text stays legible on it in both themes
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=LIGHT_COLORS[split], alpha=alpha, linewidth=0))
        if totals[row]:
            x, weight, percent = column + 0.5, "bold" if row == column else "normal", whole_percent(float(share))
            axes.text(x, row + 0.5, percent, ha="center", va="bottom", fontsize=font_size, weight=weight)
            axes.text(x, row + 0.56, f"{matrix[row, column]:,}", ha="center", va="top", fontsize=font_size * 0.74)
        elif column == 0:
            text = f"no cells in {SPLIT_ADJECTIVES[split]}"
            axes.text(0.2, row + 0.5, text, va="center", color=MUTED, fontsize=font_size)


@with_style
def plot_reliability_diagram(bins: Sequence[CalibrationBin], split: str, title: str) -> Figure:
    """Plot accuracy against confidence, and below it the number of cells per bin.

    `bins` are those of `nephros.evaluation.metrics.calibration_curve`; empty ones stay blank.
    """
    figure = new_figure(PAGE_WIDTH, 5.1, title)
    axes = add_axes(figure, 0.65, 0.35, PAGE_WIDTH - 0.85, 2.85)
    histogram = add_axes(figure, 0.65, 3.55, PAGE_WIDTH - 0.85, 0.9)
    filled_bins = [b for b in bins if b.count]
    centers = [(b.low + b.high) / 2 for b in filled_bins]
    width = (bins[0].high - bins[0].low) * 0.9
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="perfectly calibrated")
    axes.bar(centers, [b.accuracy for b in filled_bins], width, color=LIGHT_COLORS[split], alpha=0.28, linewidth=0)
    axes.plot(
        [b.confidence for b in filled_bins],
        [b.accuracy for b in filled_bins],
        color=LIGHT_COLORS[split],
        marker="o",
        markersize=4.5,
        label=f"{SPLIT_ADJECTIVES[split]}: accuracy at mean confidence",
    )
    ece = expected_calibration_error(list(bins))
    axes.set_title(f"Expected calibration error {ece:.3f}", color=INK)
    axes.set_ylabel("accuracy")
    axes.legend(loc="upper left")
    histogram.bar(centers, [b.count for b in filled_bins], width, color=LIGHT_COLORS[split], linewidth=0)
    for center, b in zip(centers, filled_bins, strict=True):
        histogram.text(center, b.count, f"{b.count:,}", ha="center", va="bottom", fontsize=6.5, color=MUTED)
    histogram.set_ylabel("cells")
    histogram.set_yticks([])
    histogram.set_xlabel("confidence (probability of the predicted class)")
    for panel in (axes, histogram):
        panel.set_xlim(0, 1)
        _percent_axis(panel, "x")
    axes.set_ylim(0, 1.02)
    _percent_axis(axes, "y")
    axes.grid(axis="y")
    return figure


@with_style
def plot_roc_curves(evaluation: Evaluation, class_names: Sequence[str], split: str, title: str) -> Figure:
    """Plot one panel per class: the one-vs-rest ROC curve of its probability, its AUC, and its share of the cells.

    The panel of a class that the labels lack, or that is all they hold, says so instead. AUCs are those of
    ``evaluation.metrics``; curves are thinned to about 160 points, without a visible difference.
    """
    n_classes, n = len(class_names), len(evaluation.labels)
    columns = n_classes if n_classes <= 4 else 4
    rows = math.ceil(n_classes / columns)
    gap, title_height, top = 0.36, 0.62, 0.05
    side = min(2.6, (PAGE_WIDTH - 0.15 - gap * columns) / columns)
    width = max(4.6, 0.15 + columns * (side + gap))
    figure = new_figure(width, top + rows * (side + title_height) + 0.55, title)
    for c, name in enumerate(class_names):
        row, column = divmod(c, columns)
        axes = add_axes(
            figure, gap + column * (side + gap), top + title_height + row * (side + title_height), side, side
        )
        is_bottom = c + columns >= n_classes
        auc = evaluation.metrics.per_class[c].auc
        share = int((evaluation.labels == c).sum()) / n
        _roc_panel(axes, evaluation, c, auc, split)
        axes.set_title(wrap_label(name, 22, 2), pad=15, fontsize=8, linespacing=1.15)
        auc_text = "no AUC" if auc is None else f"AUC {auc:.3f}"
        axes.text(
            0, 1.03, f"{auc_text} · {100 * share:.1f}% of cells", transform=axes.transAxes, fontsize=7, color=MUTED
        )
        axes.tick_params(labelleft=column == 0, labelbottom=is_bottom, length=2)
        if is_bottom:
            axes.set_xlabel("false-positive rate", fontsize=7)
        if column == 0:
            axes.set_ylabel("true-positive rate", fontsize=7, labelpad=1)
    return figure


def _roc_panel(axes: Axes, evaluation: Evaluation, c: int, auc: float | None, split: str) -> None:
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    if auc is None:
        is_absent = not (evaluation.labels == c).any()
        text = (
            f"no cells\nin {SPLIT_ADJECTIVES[split]}"
            if is_absent
            else f"{SPLIT_ADJECTIVES[split]} holds\nno other class"
        )
        axes.text(0.5, 0.5, text, ha="center", va="center", color=MUTED)
        return
    x, y = thin_curve(*class_roc_curve(evaluation.probabilities, evaluation.labels, c))
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1)
    axes.fill_between(x, y, color=LIGHT_COLORS[split], alpha=0.13, linewidth=0)
    axes.plot(x, y, color=LIGHT_COLORS[split])


def thin_curve(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return about 160 points of a ROC curve, (n,) each, evenly spaced along it, with the first and the last."""
    length = x + y  # both increase, so this is the distance along the staircase
    indices = np.unique(
        np.searchsorted(length, np.linspace(length[0], length[-1], _MAX_CURVE_POINTS)).clip(0, len(x) - 1)
    )
    indices[0], indices[-1] = 0, len(x) - 1
    return x[indices], y[indices]


def _label_rows(
    axes: Axes,
    class_names: Sequence[str],
    positions: Sequence[float],
    width: int,
    counts: NDArray[np.int64] | None = None,
) -> None:
    labels = [wrap_label(name, width, 2) for name in class_names]
    if counts is not None:
        labels = [
            f"{label}\n{count:,} cells" if len(class_names) <= 12 else label
            for label, count in zip(labels, counts, strict=True)
        ]
    axes.set_yticks(list(positions), labels, color=INK, fontsize=7.5 if len(class_names) <= 12 else 6.5)
    axes.tick_params(axis="y", length=0)


def _percent_axis(axes: Axes, which: str) -> None:
    percent_axis(axes.xaxis if which == "x" else axes.yaxis)
    axes.spines["bottom" if which == "x" else "left"].set_color(LINE)
