"""Pictures of counts and of right and wrong: class ratios, the confusion matrix, calibration. Data in, figure out, no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from nephros.data.dataset import SPLIT_ADJECTIVES
from nephros.evaluation.metrics import CalibrationBin, expected_calibration_error
from nephros.reporting.plots.style import (
    INK,
    LIGHT_COLORS,
    LINE,
    MUTED,
    PAPER,
    add_axes,
    format_percent,
    new_figure,
    with_style,
    wrap_label,
)

PAGE_WIDTH = 7.5
"""Inches across: the page's column."""


@with_style
def plot_class_balance(counts: Mapping[str, Sequence[int]], class_names: Sequence[str], title: str) -> Figure:
    """Draw each class's share of every split as bars, with its count and share in figures.

    Args:
        counts: split name (train, val, test) -> images of each class, (classes,) whole numbers.
        names: of the classes, (classes,).
        title: the data's provenance.
    """
    bar_height, gap, splits = 0.17, 0.16, list(counts)
    group_height = bar_height * len(splits) + gap
    height = 0.4 + group_height * len(class_names) + 0.45
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
            text = f"{count:,} · {100 * share:.1f} %" if count else "none"
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
    axes.spines["left"].set_visible(False)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=len(splits), borderaxespad=0.3, handlelength=1, handleheight=1
    )
    return figure


@with_style
def plot_confusion_matrix(matrix: NDArray[np.int64], class_names: Sequence[str], split: str, title: str) -> Figure:
    """Draw the confusion matrix with rows normalised to 1 in the depth of colour and both share and count in each cell.

    Args:
        matrix: (classes, classes) counts; row = actual, column = predicted. A row may be empty.
        names: of the classes, (classes,).
        split: the split that it is of; also picks the colour.
        title: the data's provenance.
    """
    n_classes = len(class_names)
    side = min(1.3, max(0.36, 4.95 / n_classes))
    left, top = 1.95, 1.15
    width, height = max(5.6, left + side * n_classes + 0.6), top + side * n_classes + 0.5
    figure = new_figure(width, height, title)
    axes = add_axes(figure, left, top, side * n_classes, side * n_classes)
    totals = matrix.sum(axis=1)
    shares = matrix / np.maximum(totals, 1)[:, None]
    font_size = min(9.0, 3 + side * 7.5)
    for (row, column), share in np.ndenumerate(shares):
        alpha = 0.03 + 0.53 * float(share)  # no deeper, so that ink stays legible on it in both themes
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=LIGHT_COLORS[split], alpha=alpha, linewidth=0))
        if totals[row]:
            center, weight = column + 0.5, "bold" if row == column else "normal"
            axes.text(
                center,
                row + 0.5,
                format_percent(float(share)),
                ha="center",
                va="bottom",
                fontsize=font_size,
                weight=weight,
            )
            axes.text(center, row + 0.56, f"{matrix[row, column]:,}", ha="center", va="top", fontsize=font_size * 0.74)
        elif column == 0:
            axes.text(
                0.2,
                row + 0.5,
                f"no such cells in {SPLIT_ADJECTIVES[split]}",
                va="center",
                color=MUTED,
                fontsize=font_size,
            )
    axes.set_xlim(0, n_classes)
    axes.set_ylim(n_classes, 0)
    axes.hlines(range(n_classes + 1), 0, n_classes, color=PAPER, linewidth=1.5)
    axes.vlines(range(n_classes + 1), 0, n_classes, color=PAPER, linewidth=1.5)
    _label_rows(axes, class_names, [c + 0.5 for c in range(n_classes)], 25, counts=totals)
    axes.xaxis.tick_top()
    rotated = side < 0.95
    labels = [wrap_label(name, 18 if rotated else 13) for name in class_names]
    axes.set_xticks([c + 0.5 for c in range(n_classes)], labels, color=INK, fontsize=7)
    if rotated:
        for label in axes.get_xticklabels():
            label.set(rotation=32, ha="left", rotation_mode="anchor")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.text(
        left / width, 0.25 / height, "rows: actual class   ·   columns: what it was called", fontsize=7, color=MUTED
    )
    return figure


@with_style
def plot_reliability_diagram(bins: Sequence[CalibrationBin], split: str, title: str) -> Figure:
    """Draw how often answers of each confidence are right against the diagonal, and how many answers each bin holds.

    `bins` are those of nephros.evaluation.metrics.calibration; empty ones stay blank.
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
        label=f"{SPLIT_ADJECTIVES[split]}: share right at mean confidence",
    )
    ece = expected_calibration_error(list(bins))
    axes.set_title(f"Expected calibration error {ece:.3f}", color=INK)
    axes.set_ylabel("share right")
    axes.legend(loc="upper left")
    histogram.bar(centers, [b.count for b in filled_bins], width, color=LIGHT_COLORS[split], linewidth=0)
    for center, b in zip(centers, filled_bins, strict=True):
        histogram.text(center, b.count, f"{b.count:,}", ha="center", va="bottom", fontsize=6.5, color=MUTED)
    histogram.set_ylabel("cells")
    histogram.set_yticks([])
    histogram.set_xlabel("confidence: the top class's probability")
    for panel in (axes, histogram):
        panel.set_xlim(0, 1)
        _percent_axis(panel, "x")
    axes.set_ylim(0, 1.02)
    _percent_axis(axes, "y")
    axes.grid(axis="y")
    return figure


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
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.spines["bottom" if which == "x" else "left"].set_color(LINE)
