"""ROC and precision-recall curves, one panel of each per class. From data to a figure, without files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nephros.data.split import SPLIT_ADJECTIVES
from nephros.evaluation.metrics import class_pr_curve, class_roc_curve
from nephros.evaluation.scoring import Evaluation
from nephros.reporting.class_names import fit_class_labels
from nephros.reporting.plots.style import (
    LIGHT_COLORS,
    MUTED,
    SMALL,
    WIDE_WIDTH,
    add_axes,
    new_figure,
    with_style,
)

_MAX_CURVE_POINTS = 120
_MAX_COLUMNS, _MAX_PAIRS = 8, 3
_LEFT, _GAP, _NAME, _VALUE, _AXIS, _BLOCK_GAP = 0.5, 0.16, 0.36, 0.2, 0.4, 0.1
"""Inches: of the row labels, between columns, and the heights of a name, of a value, of an axis and between blocks."""
_CHANCE_STYLE: dict[str, Any] = {"color": MUTED, "linewidth": 0.8, "linestyle": (0, (4, 3))}


@with_style
def plot_ranking_curves(evaluation: Evaluation, class_names: Sequence[str], split: str, title: str) -> Figure:
    """Plot per class the one-vs-rest ROC curve of its probability and, below it, the precision-recall curve, with both areas.

    A dashed line is chance: the diagonal of a ROC curve, and the class's share as precision. The panels of a class that the
    labels lack, or that is all they hold, say so instead. Areas are those of ``evaluation.metrics``; curves are thinned to
    about 120 points, without a visible difference.
    """
    layout = _Layout.of(len(class_names))
    figure = new_figure(layout.width, layout.height, title)
    for c, label in enumerate(fit_class_labels(class_names, int(layout.side * 72 / 4.6))):
        left, top = layout.position(c)
        x, y = left / layout.width, 1 - (top + _NAME) / layout.height
        figure.text(x, y, label, fontsize=7.5, weight="bold", va="bottom", linespacing=1.15)
        for row, draw in enumerate((_draw_roc, _draw_pr)):
            right, down = (row * layout.step, 0) if layout.is_paired else (0, row * (layout.side + _AXIS + _VALUE))
            axes = add_axes(figure, left + right, top + _NAME + _VALUE + down, layout.side, layout.side)
            _frame(axes, has_labels=layout.is_paired or c % layout.columns == 0)
            if layout.is_paired or c % layout.columns == 0:
                axes.set_ylabel(("true-positive rate", "precision")[row], fontsize=SMALL, labelpad=1)
                axes.set_xlabel(("false-positive rate", "recall")[row], fontsize=SMALL, labelpad=1)
            if evaluation.metrics.per_class[c].auc is None:
                is_absent = not (evaluation.labels == c).any()
                split_name = SPLIT_ADJECTIVES[split]
                text = f"no images\nin {split_name}" if is_absent else f"{split_name} holds\nno other class"
                axes.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, fontsize=SMALL)
            else:
                draw(axes, evaluation, c, LIGHT_COLORS[split])
    return figure


@dataclass(frozen=True)
class _Layout:
    """Where the panels are, in inches: a class's curves beside one another where there are few classes, else above."""

    is_paired: bool
    columns: int
    """Classes side by side."""
    blocks: int
    """Classes one above the other."""
    side: float
    """Width and height of a panel."""

    @classmethod
    def of(cls, n_classes: int) -> _Layout:
        """Return the layout for so many classes."""
        is_paired = n_classes <= _MAX_PAIRS
        columns = min(n_classes, _MAX_COLUMNS)
        n_panels, gap = (2 * columns, _LEFT) if is_paired else (columns, _GAP)
        side = min(1.9, (WIDE_WIDTH - _LEFT - 0.1 - gap * (n_panels - 1)) / n_panels)
        return cls(is_paired, columns, math.ceil(n_classes / columns), side)

    @property
    def step(self) -> float:
        """From the left edge of a panel to that of the next."""
        return self.side + (_LEFT if self.is_paired else _GAP)

    @property
    def width(self) -> float:
        """Of the figure."""
        return max(5.0, _LEFT + self.columns * (2 if self.is_paired else 1) * self.step)

    @property
    def block_height(self) -> float:
        """Height of a class's name and panels."""
        return _NAME + (1 if self.is_paired else 2) * (_VALUE + self.side + _AXIS) + _BLOCK_GAP

    @property
    def height(self) -> float:
        """Of the figure."""
        return self.blocks * self.block_height + 0.1

    def position(self, c: int) -> tuple[float, float]:
        """Return the left and top edge of a class."""
        block, column = divmod(c, self.columns)
        return _LEFT + column * (2 if self.is_paired else 1) * self.step, block * self.block_height


def _frame(axes: Axes, has_labels: bool) -> None:
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=SMALL)
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=SMALL)
    axes.tick_params(labelleft=has_labels, length=2, pad=1.5)
    first, _, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")


def _draw_roc(axes: Axes, evaluation: Evaluation, c: int, color: str) -> None:
    x, y = thin_curve(*class_roc_curve(evaluation.probabilities, evaluation.labels, c))
    axes.plot([0, 1], [0, 1], **_CHANCE_STYLE)
    axes.fill_between(x, y, color=color, alpha=0.13, linewidth=0)
    axes.plot(x, y, color=color)
    _write_value(axes, f"AUC {evaluation.metrics.per_class[c].auc:.3f}")


def _draw_pr(axes: Axes, evaluation: Evaluation, c: int, color: str) -> None:
    x, y = thin_curve(*class_pr_curve(evaluation.probabilities, evaluation.labels, c))
    share = float((evaluation.labels == c).mean())
    axes.plot([0, 1], [share, share], **_CHANCE_STYLE)
    axes.fill_between(x, y, color=color, alpha=0.13, linewidth=0, step="pre")
    axes.plot(x, y, color=color, drawstyle="steps-pre")
    _write_value(axes, f"PR-AUC {evaluation.metrics.per_class[c].pr_auc:.3f}")


def _write_value(axes: Axes, text: str) -> None:
    axes.text(0, 1.03, text, transform=axes.transAxes, fontsize=SMALL, color=MUTED, va="bottom")


def thin_curve(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return about 120 points of a curve, (n,) each, evenly spaced along its steps, with the first and the last; x rises."""
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    indices = np.unique(np.searchsorted(length, np.linspace(0, length[-1], _MAX_CURVE_POINTS)).clip(0, len(x) - 1))
    indices[0], indices[-1] = 0, len(x) - 1
    return x[indices], y[indices]
