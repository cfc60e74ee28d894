"""Plots of a classifier's data and predictions: class balance, confusion matrix, reliability diagram.

From data to a figure, without files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from nephros.data.split import SPLIT_ADJECTIVES
from nephros.evaluation.metrics import CalibrationBin, expected_calibration_error
from nephros.reporting.class_names import fit_class_labels, short_class_names
from nephros.reporting.plots.style import (
    HALF_WIDTH,
    INK,
    LIGHT_COLORS,
    LINE,
    MUTED,
    PAGE_WIDTH,
    PAPER,
    SMALL,
    add_axes,
    new_figure,
    percent_axis,
    whole_percent,
    with_style,
    wrap_label,
)


@with_style
def plot_class_balance(counts: Mapping[str, Sequence[int]], class_names: Sequence[str], title: str) -> Figure:
    """Plot each class's share of every split as bars, labeled with count and share.

    Args:
        counts: split name (train, val, test) -> images per class.
        class_names: names of the classes.
        title: the data's title.
    """
    bar_height, gap, splits = 0.08, 0.07, list(counts)
    group_height = max(0.3 if len(class_names) <= 12 else 0.26, bar_height * len(splits) + gap)
    left, right, top, plot_height = 1.35, 0.5 * len(splits) + 0.1, 0.45, group_height * len(class_names)
    figure = new_figure(HALF_WIDTH, top + plot_height + 0.6, title)
    axes = add_axes(figure, left, top, HALF_WIDTH - left - right, plot_height)
    for row, split in enumerate(splits):
        color, total = LIGHT_COLORS[split], sum(counts[split])
        shares = [count / max(1, total) for count in counts[split]]
        offset = (group_height - bar_height * len(splits)) / 2 + bar_height * (row + 0.5)
        axes.barh(
            [group_height * c + offset for c in range(len(class_names))], shares, height=bar_height * 0.85, color=color
        )
        column_style: dict[str, Any] = {
            "xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right", "va": "center", "color": color,
            "fontsize": SMALL,
        }  # fmt: skip
        x = 72 * (0.1 + 0.5 * (row + 1))
        for c, count in enumerate(counts[split]):
            axes.annotate(f"{count:,}" if count else "none", (1, group_height * (c + 0.5)), (x, 0), **column_style)
        header = f"{'validation' if split == 'val' else split}\n{total:,}".replace("validation", "val.")
        axes.annotate(header, (1, 0), (x, 14), **column_style, weight="bold")
    axes.set_ylim(plot_height, 0)
    axes.set_xlim(0, None)
    axes.margins(x=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    _label_rows(axes, short_class_names(class_names), [group_height * (c + 0.5) for c in range(len(class_names))], 18)
    percent_axis(axes.xaxis)
    axes.spines["bottom"].set_color(LINE)
    axes.set_xlabel("share of the split")
    axes.spines["left"].set_visible(False)
    return figure


@with_style
def plot_confusion_matrix(matrix: NDArray[np.int64], class_names: Sequence[str], split: str, title: str) -> Figure:
    """Plot a confusion matrix, shaded by the share of the row, right and wrong in hues of their own; cells hold share and count.

    Args:
        matrix: (classes, classes) counts; row = actual, column = predicted. A row may be empty.
        class_names: names of the classes.
        split: train, val or test.
        title: the data's title.
    """
    n_classes = len(class_names)
    left, top, cell_height = 1.95, 0.5, 0.42 if n_classes <= 12 else 0.38
    cell_width = min(1.3, max(0.46, (PAGE_WIDTH - left - 0.05) / n_classes))
    characters = int(cell_width * 72 / 4.4)
    columns = [wrap_label(name, max(characters, 9), 2) for name in short_class_names(class_names)]
    is_rotated = max(len(line) for label in columns for line in label.split("\n")) > characters
    if is_rotated:
        top, columns = 1.0, short_class_names(class_names)
    width = max(5.6, left + cell_width * n_classes + (0.6 if is_rotated else 0.05))
    height = top + cell_height * n_classes + 0.5
    figure = new_figure(width, height, title)
    axes = add_axes(figure, left, top, cell_width * n_classes, cell_height * n_classes)
    _draw_matrix_cells(axes, matrix, split)
    axes.set_xlim(0, n_classes)
    axes.set_ylim(n_classes, 0)
    axes.hlines(range(n_classes + 1), 0, n_classes, color=PAPER, linewidth=1.5)
    axes.vlines(range(n_classes + 1), 0, n_classes, color=PAPER, linewidth=1.5)
    _label_rows(axes, class_names, [c + 0.5 for c in range(n_classes)], 27)
    axes.xaxis.tick_top()
    axes.set_xticks([c + 0.5 for c in range(n_classes)], columns, color=INK, fontsize=SMALL, linespacing=1.1)
    if is_rotated:
        for label in axes.get_xticklabels():
            label.set(rotation=32, ha="left", rotation_mode="anchor")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    key = [Patch(color=LIGHT_COLORS[name], label=name) for name in ("right", "wrong")]
    figure.legend(
        handles=key, loc="lower left", bbox_to_anchor=(left / width, 0.2 / height), ncols=2, handlelength=1, handleheight=1,
        borderaxespad=0, borderpad=0, columnspacing=1.2,
    )  # fmt: skip
    figure.text(
        (left + 1.3) / width, 0.24 / height, "rows: actual class, columns: predicted class", fontsize=SMALL, color=MUTED
    )
    return figure


def cell_opacity(share: float) -> float:
    """Return the opacity of a matrix's cell with a share of its row, from nearly none to full.

    It leaps at one half, where the text turns from the page's ink to its paper: neither is legible on what lies between, in a
    light theme or a dark one.
    """
    return 0.03 + 0.51 * (2 * share) ** 0.8 if share < 0.5 else 0.74 + 0.52 * (share - 0.5)


def _draw_matrix_cells(axes: Axes, matrix: NDArray[np.int64], split: str) -> None:
    """Draw each cell of a confusion matrix, shaded by the share of its row; an empty row says that it has no cells."""
    totals = matrix.sum(axis=1)
    for (row, column), share in np.ndenumerate(matrix / np.maximum(totals, 1)[:, None]):
        hue = LIGHT_COLORS["right" if row == column else "wrong"]
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=hue, alpha=cell_opacity(float(share)), linewidth=0))
        if totals[row]:
            x, weight, percent = column + 0.5, "bold" if row == column else "normal", whole_percent(float(share))
            color = PAPER if share >= 0.5 else INK
            axes.text(x, row + 0.5, percent, ha="center", va="bottom", fontsize=8.5, weight=weight, color=color)
            axes.text(x, row + 0.54, f"{matrix[row, column]:,}", ha="center", va="top", fontsize=SMALL, color=color)
        elif column == 0:
            text = f"no images in {SPLIT_ADJECTIVES[split]}"
            axes.text(0.2, row + 0.5, text, va="center", color=MUTED, fontsize=8)


@with_style
def plot_reliability_diagram(bins: Sequence[CalibrationBin], split: str, title: str) -> Figure:
    """Plot accuracy against confidence, and below it the number of cells per bin.

    `bins` are those of `nephros.evaluation.metrics.calibration_curve`; empty ones stay blank.
    """
    figure = new_figure(HALF_WIDTH, 3.75, title)
    axes = add_axes(figure, 0.65, 0.3, HALF_WIDTH - 0.85, 1.9)
    histogram = add_axes(figure, 0.65, 2.55, HALF_WIDTH - 0.85, 0.55)
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
        histogram.text(center, b.count, _short_count(b.count), ha="center", va="bottom", fontsize=SMALL, color=MUTED)
    histogram.set_ylabel("images")
    histogram.set_yticks([])
    histogram.set_xlabel("confidence (probability of the predicted class)")
    for panel in (axes, histogram):
        panel.set_xlim(0, 1)
        percent_axis(panel.xaxis)
        panel.spines["bottom"].set_color(LINE)
    axes.set_ylim(0, 1.02)
    percent_axis(axes.yaxis)
    axes.spines["left"].set_color(LINE)
    axes.grid(axis="y")
    return figure


def _short_count(count: int) -> str:
    """Return a count in at most four characters up to a million: 999, 1.2k, 12k."""
    return str(count) if count < 1000 else f"{count / 1000:.1f}k" if count < 9950 else f"{count / 1000:.0f}k"


def _label_rows(axes: Axes, class_names: Sequence[str], positions: Sequence[float], width: int) -> None:
    labels = fit_class_labels(class_names, width)
    axes.set_yticks(list(positions), labels, color=INK, fontsize=7.5, linespacing=1.05)
    axes.tick_params(axis="y", length=0)
