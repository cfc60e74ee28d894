"""Pictures of cells: the triptychs of mistakes, and a tile for each class. Data in, picture out, no files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nephros.data.display import enlarge, overlay
from nephros.interpretability.reasons import Reason
from nephros.reporting.plots.style import INK, LIGHT, MUTED, sheet, styled, wrap
from nephros.reporting.run.misclassified import Triptych

_SMALL = 56
"""Pixels a side to which a smaller cell is enlarged in a triptych; a viewer smooths the rest of the way."""

_SIDE, _GAP, _EDGE = 1.1, 0.1, 0.03
_WIDTH = 3 * _SIDE + 2 * _GAP + 2 * _EDGE
_TOP, _CAPTION, _APART = 0.42, 0.6, 0.16
"""Inches."""

_HEADS = ("an image of the\npredicted class", "the misclassified\ncell", "an image of the\nactual class")


@styled
def triptychs(
    rows: Sequence[Triptych],
    images: NDArray[np.uint8],
    names: Sequence[str],
    split: str,
    title: str,
    reasons: Sequence[Reason] | None = None,
) -> Figure:
    """Draw one row a mistake: a cell of the predicted class | the misclassified cell | a cell of the actual class.

    Beneath the outer cells stand their class and the probability that they gave to it; beneath the mistaken one those
    that it gave to the class on its left and to its own, on its right.

    Args:
        rows: at least one, of nephros.reporting.run.misclassified.mistakes.
        images: of the whole split, (n, h, w) or (n, h, w, 3) uint8.
        names: of the classes, (classes,).
        split: the split that they are of; picks the frame's colour.
        title: the data's provenance.
        reasons: one a row; then the mistaken cell stands once more below each row, with its heat map, beside the training
            cells that are most similar to it.
    """
    tall = 2 * (_SIDE + _CAPTION) + _APART if reasons else _SIDE + _CAPTION
    height = _TOP + len(rows) * tall + 0.1
    figure = sheet(_WIDTH, height, title)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(height, 0)
    axes.axis("off")
    accent = LIGHT[split]
    lefts = [_EDGE + i * (_SIDE + _GAP) for i in range(3)]
    for left, head, colour in zip(lefts, _HEADS, (MUTED, accent, MUTED), strict=True):
        axes.text(left, _TOP - 0.07, head, fontsize=7, color=colour, va="bottom", linespacing=1.15)
    for r, row in enumerate(rows):
        top = _TOP + r * tall
        under = top + _SIDE + 0.15
        for left, cell in ((lefts[0], row.predicted), (lefts[2], row.actual)):
            _cell(axes, images[cell.index], left, top, None)
            said = f"right, p {cell.confidence:.2f}" if cell.right else f"missed, p {cell.of_actual:.2f}"
            lines = [*wrap(names[cell.actual], 18, 2).split("\n"), said]
            for i, line in enumerate(lines):
                axes.text(left, under + 0.125 * i, line, fontsize=7, color=MUTED if line is said else INK)
        left, mistake = lefts[1], row.mistake
        _cell(axes, images[mistake.index], left, top, accent)
        axes.text(left, under, f"← {mistake.confidence:.2f}", fontsize=7.5, color=accent)
        axes.text(left + _SIDE, under, f"{mistake.of_actual:.2f} →", fontsize=7.5, ha="right", color=MUTED)
        if reasons:
            _reason(axes, lefts, top + _SIDE + _CAPTION, reasons[r], images[mistake.index], names)
    return figure


def _reason(
    axes: Axes, lefts: Sequence[float], top: float, reason: Reason, image: NDArray[np.uint8], names: Sequence[str]
) -> None:
    """Draw the mistaken cell with its heat map, and the training cells that are most similar to it."""
    under = top + _SIDE + 0.15
    pictures = [overlay(image, reason.heat, _SMALL), *(cell.image for cell in reason.similar)]
    words = [["what spoke for it", f"({reason.method})"]]
    words += [
        [*wrap(names[cell.label], 18, 2).split("\n"), f"similar, {cell.similarity:.2f}"] for cell in reason.similar
    ]
    for left, picture, lines in zip(lefts, pictures, words, strict=False):
        _cell(axes, picture, left, top, None)
        for i, line in enumerate(lines):
            last = line is lines[-1]
            axes.text(left, under + 0.125 * i, line, fontsize=7, color=MUTED if last else INK)


def _cell(axes: Axes, image: NDArray[np.uint8], left: float, top: float, frame: str | None) -> None:
    pixels = enlarge(image, _SMALL)
    height, width = pixels.shape[:2]
    right, bottom = left + _SIDE * width / max(height, width), top + _SIDE * height / max(height, width)
    axes.imshow(
        pixels, cmap="gray", vmin=0, vmax=255, extent=(left, right, bottom, top), interpolation="none", aspect="auto"
    )
    if frame:
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=frame, linewidth=2.2)
