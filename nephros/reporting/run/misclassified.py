"""Misclassified cells: the most confident errors of each class, and their figure with explanations."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nephros.data.images.transforms import overlay_heatmap, to_display
from nephros.data.volumes import IndexedImages
from nephros.evaluation.scoring import Evaluation
from nephros.interpretability.run_explainer import CellExplanation
from nephros.reporting.plots.style import (
    INK,
    LIGHT_COLORS,
    MUTED,
    SMALL,
    new_figure,
    with_style,
    wrap_label,
)

_MIN_SIDE = 56
"""Pixels per side to which smaller cells are enlarged; the browser smooths beyond that."""

_SIDE, _GAP, _EDGE = 1.1, 0.1, 0.03
_WIDTH = 3 * _SIDE + 2 * _GAP + 2 * _EDGE
_TOP, _CAPTION, _ROW_GAP = 0.42, 0.6, 0.16
"""Inches."""

_LINE_LENGTH = 18
"""Characters of a line below an image."""
_COLUMN_TITLES = ("predicted class", "misclassified image", "actual class")


@dataclass(frozen=True)
class ScoredCell:
    """A cell of the split and its prediction."""

    index: int
    """Position in the split, in file order."""
    actual: int
    predicted: int
    confidence: float
    """Probability of its predicted class."""
    actual_probability: float
    """Probability of its actual class."""

    @property
    def is_correct(self) -> bool:
        """Whether the prediction is right."""
        return self.actual == self.predicted


@dataclass(frozen=True)
class MisclassifiedCell:
    """A triptych, as in the course report: a cell of the predicted class, the misclassified cell, a cell of its actual class."""

    predicted_example: ScoredCell
    cell: ScoredCell
    actual_example: ScoredCell


def most_confident_correct(evaluation: Evaluation, class_index: int, limit: int) -> list[ScoredCell]:
    """Return the correctly classified cells of a class, by falling confidence, up to `limit`.

    If there are none, the cells of the class that gave it the highest probability; if the split lacks the class, nothing.
    """
    scores = evaluation.probabilities[:, class_index]
    members = np.flatnonzero(evaluation.labels == class_index)
    correct = members[evaluation.probabilities[members].argmax(axis=1) == class_index]
    return [_scored_cell(evaluation, int(i)) for i in _top_indices(correct if len(correct) else members, scores, limit)]


def most_confident_errors(evaluation: Evaluation, class_index: int, limit: int = 3) -> list[MisclassifiedCell]:
    """Return triptychs of the most confident errors on cells of a class, up to `limit`.

    Row k shows the k-th most confident cells of the two classes, so that rows differ. Errors whose predicted class the split
    lacks are skipped, because there is no cell to show beside them.
    """
    predicted = evaluation.probabilities.argmax(axis=1)
    present = np.isin(predicted, evaluation.labels)
    errors = np.flatnonzero((evaluation.labels == class_index) & (predicted != class_index) & present)
    rows = []
    for k, index in enumerate(_top_indices(errors, evaluation.probabilities.max(axis=1), limit)):
        cell = _scored_cell(evaluation, int(index))
        predicted_example, actual_example = (
            _pick_example(most_confident_correct(evaluation, c, limit + 1), cell, k)
            for c in (cell.predicted, class_index)
        )
        if actual_example.index == cell.index:  # the best cell of a class without correct predictions
            actual_example = next(
                (
                    _scored_cell(evaluation, int(i))
                    for i in np.flatnonzero(evaluation.labels == class_index)
                    if i != index
                ),
                actual_example,
            )
        rows.append(MisclassifiedCell(predicted_example, cell, actual_example))
    return rows


def _pick_example(candidates: list[ScoredCell], error: ScoredCell, k: int) -> ScoredCell:
    others = [cell for cell in candidates if cell.index != error.index] or candidates
    return others[k % len(others)]


def _top_indices(indices: NDArray[np.int64], scores: NDArray[np.float64], limit: int) -> NDArray[np.int64]:
    return indices[np.argsort(-scores[indices], kind="stable")[:limit]]


def _scored_cell(evaluation: Evaluation, index: int) -> ScoredCell:
    probabilities = evaluation.probabilities[index]
    actual, predicted = int(evaluation.labels[index]), int(probabilities.argmax())
    return ScoredCell(index, actual, predicted, float(probabilities[predicted]), float(probabilities[actual]))


@with_style
def plot_misclassified(
    rows: Sequence[MisclassifiedCell],
    images: IndexedImages,
    class_names: Sequence[str],
    split: str,
    title: str,
    explanations: Sequence[CellExplanation] | None = None,
    image_names: NDArray[np.str_] | None = None,
) -> Figure:
    """Draw one row per error: a cell of the predicted class | the misclassified cell | a cell of the actual class.

    Below the outer cells are their class and its probability; below the misclassified cell are the probabilities of the class
    on its left (predicted) and of that on its right (actual), its position in the split and, if it has one, its name.

    Args:
        rows: at least one, from `most_confident_errors`.
        images: of the whole split, (h, w) or (h, w, 3) uint8 each.
        class_names: names of the classes.
        split: train, val or test; sets the color of the frame.
        title: the data's title.
        explanations: one per row; each adds a row with the heat map and the most similar training cells.
        image_names: (n,) name of each image of the split, where they have names; of a long one the end is shown.
    """
    row_height = 2 * (_SIDE + _CAPTION) + _ROW_GAP if explanations else _SIDE + _CAPTION
    height = _TOP + len(rows) * row_height + 0.1
    figure = new_figure(_WIDTH, height, title)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(height, 0)
    axes.axis("off")
    split_color = LIGHT_COLORS[split]
    lefts = [_EDGE + i * (_SIDE + _GAP) for i in range(3)]
    for left, column_title, color in zip(lefts, _COLUMN_TITLES, (MUTED, split_color, MUTED), strict=True):
        axes.text(left, _TOP - 0.07, column_title, fontsize=SMALL, color=color, va="bottom", linespacing=1.15)
    for r, row in enumerate(rows):
        top = _TOP + r * row_height
        text_top = top + _SIDE + 0.15
        for left, cell in ((lefts[0], row.predicted_example), (lefts[2], row.actual_example)):
            _draw_cell(axes, images[cell.index], left, top, None)
            score = (
                f"correct, p {cell.confidence:.2f}" if cell.is_correct else f"missed, p {cell.actual_probability:.2f}"
            )
            lines = [*wrap_label(class_names[cell.actual], _LINE_LENGTH, 2).split("\n"), score]
            for i, line in enumerate(lines):
                axes.text(left, text_top + 0.125 * i, line, fontsize=SMALL, color=MUTED if line is score else INK)
        left, misclassified = lefts[1], row.cell
        _draw_cell(axes, images[misclassified.index], left, top, split_color)
        axes.text(left, text_top, f"← {misclassified.confidence:.2f}", fontsize=7.5, color=split_color)
        axes.text(
            left + _SIDE, text_top, f"{misclassified.actual_probability:.2f} →", fontsize=7.5, ha="right", color=MUTED
        )
        name_lines = [] if image_names is None else _name_lines(str(image_names[misclassified.index]))
        for i, line in enumerate([f"#{misclassified.index}", *name_lines], start=1):
            axes.text(left, text_top + 0.125 * i, line, fontsize=SMALL, color=MUTED)
        if explanations:
            _draw_explanation(
                axes, lefts, top + _SIDE + _CAPTION, explanations[r], images[misclassified.index], class_names
            )
    return figure


def _name_lines(name: str) -> list[str]:
    """Return the name of an image in up to two lines: of a longer one the end, where the id or the file is, after an ellipsis."""
    lines = textwrap.wrap(name, _LINE_LENGTH)
    return lines if len(lines) <= 2 else [f"…{lines[-2]}", lines[-1]]


def _draw_explanation(
    axes: Axes,
    lefts: Sequence[float],
    top: float,
    explanation: CellExplanation,
    image: NDArray[np.uint8],
    class_names: Sequence[str],
) -> None:
    """Draw the misclassified cell with its heat map, and the training cells most similar to it."""
    text_top = top + _SIDE + 0.15
    panels = [
        overlay_heatmap(image, explanation.saliency, _MIN_SIDE),
        *(cell.image for cell in explanation.similar_cells),
    ]
    captions = [["evidence for the", "prediction", f"({explanation.method})"]]
    captions += [
        [*wrap_label(class_names[cell.label], _LINE_LENGTH, 2).split("\n"), f"similar, {cell.similarity:.2f}"]
        for cell in explanation.similar_cells
    ]
    for left, panel, lines in zip(lefts, panels, captions, strict=False):
        _draw_cell(axes, panel, left, top, None)
        for i, line in enumerate(lines):
            last = line is lines[-1]
            axes.text(left, text_top + 0.125 * i, line, fontsize=SMALL, color=MUTED if last else INK)


def _draw_cell(axes: Axes, image: NDArray[np.uint8], left: float, top: float, frame: str | None) -> None:
    pixels = to_display(image, _MIN_SIDE)
    height, width = pixels.shape[:2]
    right, bottom = left + _SIDE * width / max(height, width), top + _SIDE * height / max(height, width)
    axes.imshow(
        pixels, cmap="gray", vmin=0, vmax=255, extent=(left, right, bottom, top), interpolation="none", aspect="auto"
    )
    if frame:
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=frame, linewidth=2.2)
