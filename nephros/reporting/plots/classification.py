"""Pictures of counts and of right and wrong: class ratios, the confusion matrix, calibration. Data in, figure out, no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from nephros.data.dataset import WORD
from nephros.evaluation.metrics import CalibrationBin, expected_calibration_error
from nephros.reporting.plots.style import INK, LIGHT, LINE, MUTED, PAPER, percent, place, sheet, styled, wrap

WIDE = 7.5
"""Inches across: the page's column."""


@styled
def class_ratios(counts: Mapping[str, Sequence[int]], names: Sequence[str], title: str) -> Figure:
    """Draw each class's share of every split as bars, with its count and share in figures.

    Args:
        counts: split name (train, val, test) -> images of each class, (classes,) whole numbers.
        names: of the classes, (classes,).
        title: the data's provenance.
    """
    bar, gap, splits = 0.17, 0.16, list(counts)
    block = bar * len(splits) + gap
    height = 0.4 + block * len(names) + 0.45
    figure = sheet(WIDE, height, title)
    axes = place(figure, 1.85, 0.4, WIDE - 1.85 - 1.1, block * len(names))
    for row, split in enumerate(splits):
        total = max(1, sum(counts[split]))
        shares = [count / total for count in counts[split]]
        middles = [block * c + gap / 2 + bar * (row + 0.5) for c in range(len(names))]
        axes.barh(
            middles,
            shares,
            height=bar * 0.82,
            color=LIGHT[split],
            label=f"{WORD[split]}, {sum(counts[split]):,} images",
        )
        for middle, share, count in zip(middles, shares, counts[split], strict=True):
            text = f"{count:,} · {100 * share:.1f} %" if count else "none"
            axes.annotate(
                text, (share, middle), (4, 0), textcoords="offset points", va="center", fontsize=6.5, color=LIGHT[split]
            )
    axes.set_ylim(block * len(names), 0)
    axes.set_xlim(0, None)
    axes.margins(x=0)
    _named_rows(axes, names, [block * (c + 0.5) for c in range(len(names))], 25)
    _shares(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=len(splits), borderaxespad=0.3, handlelength=1, handleheight=1
    )
    return figure


@styled
def confusion(matrix: NDArray[np.int64], names: Sequence[str], split: str, title: str) -> Figure:
    """Draw the confusion matrix with rows normalised to 1 in the depth of colour and both share and count in each cell.

    Args:
        matrix: (classes, classes) counts; row = actual, column = predicted. A row may be empty.
        names: of the classes, (classes,).
        split: the split that it is of; also picks the colour.
        title: the data's provenance.
    """
    classes = len(names)
    side = min(1.3, max(0.36, 4.95 / classes))
    left, top = 1.95, 1.15
    width, height = max(5.6, left + side * classes + 0.6), top + side * classes + 0.5
    figure = sheet(width, height, title)
    axes = place(figure, left, top, side * classes, side * classes)
    totals = matrix.sum(axis=1)
    shares = matrix / np.maximum(totals, 1)[:, None]
    big = min(9.0, 3 + side * 7.5)
    for (row, column), share in np.ndenumerate(shares):
        depth = 0.03 + 0.53 * float(share)  # no deeper, so that ink stays legible on it in both themes
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=LIGHT[split], alpha=depth, linewidth=0))
        if totals[row]:
            middle, bold = column + 0.5, "bold" if row == column else "normal"
            axes.text(middle, row + 0.5, percent(float(share)), ha="center", va="bottom", fontsize=big, weight=bold)
            axes.text(middle, row + 0.56, f"{matrix[row, column]:,}", ha="center", va="top", fontsize=big * 0.74)
        elif column == 0:
            axes.text(0.2, row + 0.5, f"no such cells in {WORD[split]}", va="center", color=MUTED, fontsize=big)
    axes.set_xlim(0, classes)
    axes.set_ylim(classes, 0)
    axes.hlines(range(classes + 1), 0, classes, color=PAPER, linewidth=1.5)
    axes.vlines(range(classes + 1), 0, classes, color=PAPER, linewidth=1.5)
    _named_rows(axes, names, [c + 0.5 for c in range(classes)], 25, counts=totals)
    axes.xaxis.tick_top()
    slanted = side < 0.95
    labels = [wrap(name, 18 if slanted else 13) for name in names]
    axes.set_xticks([c + 0.5 for c in range(classes)], labels, color=INK, fontsize=7)
    if slanted:
        for label in axes.get_xticklabels():
            label.set(rotation=32, ha="left", rotation_mode="anchor")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.text(
        left / width, 0.25 / height, "rows: actual class   ·   columns: what it was called", fontsize=7, color=MUTED
    )
    return figure


@styled
def reliability(bins: Sequence[CalibrationBin], split: str, title: str) -> Figure:
    """Draw how often answers of each confidence are right against the diagonal, and how many answers each bin holds.

    `bins` are those of nephros.evaluation.metrics.calibration; empty ones stay blank.
    """
    figure = sheet(WIDE, 5.1, title)
    axes = place(figure, 0.65, 0.35, WIDE - 0.85, 2.85)
    below = place(figure, 0.65, 3.55, WIDE - 0.85, 0.9)
    held = [part for part in bins if part.count]
    middles = [(part.low + part.high) / 2 for part in held]
    width = (bins[0].high - bins[0].low) * 0.9
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="perfectly calibrated")
    axes.bar(middles, [part.accuracy for part in held], width, color=LIGHT[split], alpha=0.28, linewidth=0)
    axes.plot(
        [part.confidence for part in held],
        [part.accuracy for part in held],
        color=LIGHT[split],
        marker="o",
        markersize=4.5,
        label=f"{WORD[split]}: share right at mean confidence",
    )
    error = expected_calibration_error(list(bins))
    axes.set_title(f"Expected calibration error {error:.3f}", color=INK)
    axes.set_ylabel("share right")
    axes.legend(loc="upper left")
    below.bar(middles, [part.count for part in held], width, color=LIGHT[split], linewidth=0)
    for middle, part in zip(middles, held, strict=True):
        below.text(middle, part.count, f"{part.count:,}", ha="center", va="bottom", fontsize=6.5, color=MUTED)
    below.set_ylabel("cells")
    below.set_yticks([])
    below.set_xlabel("confidence: the top class's probability")
    for each in (axes, below):
        each.set_xlim(0, 1)
        _shares(each, "x")
    axes.set_ylim(0, 1.02)
    _shares(axes, "y")
    axes.grid(axis="y")
    return figure


def _named_rows(
    axes: Axes, names: Sequence[str], places: Sequence[float], width: int, counts: NDArray[np.int64] | None = None
) -> None:
    labels = [wrap(name, width, 2) for name in names]
    if counts is not None:
        labels = [
            f"{label}\n{count:,} cells" if len(names) <= 12 else label
            for label, count in zip(labels, counts, strict=True)
        ]
    axes.set_yticks(list(places), labels, color=INK, fontsize=7.5 if len(names) <= 12 else 6.5)
    axes.tick_params(axis="y", length=0)


def _shares(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.spines["bottom" if which == "x" else "left"].set_color(LINE)
