"""Curves: what each epoch came to, and how well each class's score tells it from the rest. Data in, figure out, no files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from nephros.data.dataset import WORD
from nephros.evaluation.metrics import roc
from nephros.evaluation.scoring import Evaluation
from nephros.recipe import Recipe
from nephros.recipe_parts import Augment
from nephros.reporting.plots.classification import WIDE
from nephros.reporting.plots.style import INK, LIGHT, LINE, MUTED, place, sheet, styled, wrap
from nephros.training.history import Epoch

_POINTS = 160


def running_label(recipe: Recipe) -> str:
    """Say how the running training figures were taken, such as ``train (running: augmented, dropout on)``."""
    how = [
        *(["augmented"] if recipe.augment != Augment() else []),
        *(["dropout on"] if recipe.model.dropout else []),
        *(["labels smoothed"] if recipe.label_smoothing else []),
        *(["classes weighted"] if recipe.class_weights != "none" else []),
    ]
    return f"train (running: {', '.join(how) or 'weights still moving'})"


@styled
def learning(
    history: Sequence[Epoch],
    title: str,
    running: str = "train (running: augmented, dropout on)",
    chosen: int | None = None,
    final: dict[str, Any] | None = None,
) -> Figure:
    """Draw accuracy, loss and learning rate by epoch.

    Args:
        history: at least one epoch.
        title: the data's provenance.
        running: the label of the training curves, which are means over an epoch while the weights moved.
        chosen: the epoch (from 1) whose weights were kept; marked.
        final: metrics of the train split by those weights in evaluation mode; drawn as a point at `chosen`.
    """
    figure = sheet(WIDE, 3.9, title)
    top, width = 0.85, (WIDE - 0.55 * 3 - 0.15) / 3
    panels = [place(figure, 0.5 + i * (width + 0.55), top, width, 2.35) for i in range(3)]
    epochs = [row.epoch for row in history]
    marker: dict[str, Any] = {"marker": "o", "markersize": 3} if len(history) < 30 else {}
    for axes, key, name in zip(panels, ("accuracy", "loss"), ("Accuracy", "Loss, nats an image"), strict=False):
        train = [getattr(row, f"train_{key}") for row in history]
        val = [getattr(row, f"val_{key}") for row in history]
        axes.plot(epochs, train, color=LIGHT["train"], linestyle=(0, (5, 2)), label=running, **marker)
        axes.plot(epochs, val, color=LIGHT["val"], label="validation", **marker)
        axes.set_title(name)
        axes.grid(axis="y")
        _mark(axes, history, key, chosen, final)
    panels[2].plot(epochs, [row.lr for row in history], color=INK, drawstyle="steps-mid", **marker)
    panels[2].set_title("Learning rate")
    rates = [row.lr for row in history]
    if (
        min(rates) > 0 and 50 < max(rates) / min(rates) < 1e4
    ):  # stairs; a rate that glides to zero reads better straight
        panels[2].set_yscale("log")
        panels[2].yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
        panels[2].yaxis.set_minor_formatter(NullFormatter())
    else:
        panels[2].set_ylim(0, max(rates) * 1.1)
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper left", bbox_to_anchor=(0.045, 1.0), ncols=2, handlelength=2.6)
    return figure


def _mark(axes: Axes, history: Sequence[Epoch], key: str, chosen: int | None, final: dict[str, Any] | None) -> None:
    """Mark the chosen epoch by a line and a ring on the validation curve, and the train split's final score by a diamond."""
    row = next((row for row in history if row.epoch == chosen), None)
    if row is None:
        return
    axes.axvline(row.epoch, color=LINE, linewidth=1, zorder=0)
    ring: dict[str, Any] = {"marker": "o", "markersize": 8, "linestyle": "none"}
    axes.plot(
        [row.epoch],
        [getattr(row, f"val_{key}")],
        color=LIGHT["val"],
        fillstyle="none",
        label=f"epoch {row.epoch}: weights kept",
        **ring,
    )
    if final is not None and final.get(key) is not None:
        axes.plot(
            [row.epoch], [final[key]], color=LIGHT["train"], marker="D", markersize=6, linestyle="none",
            label="train, evaluation mode, weights kept", zorder=3,
        )  # fmt: skip


@styled
def roc_grid(evaluation: Evaluation, names: Sequence[str], split: str, title: str) -> Figure:
    """Draw one panel a class: the ROC curve of its score against all other classes, its area, and its share of the cells.

    A class that the labels lack, or that is all they hold, has no curve, and its panel says so. Areas are those of
    ``evaluation.metrics``; curves are thinned to at most some 160 points, which no eye can tell.
    """
    classes, n = len(names), len(evaluation.labels)
    columns = classes if classes <= 4 else 4
    rows = math.ceil(classes / columns)
    gap, above, top = 0.36, 0.62, 0.05
    side = min(2.6, (WIDE - 0.15 - gap * columns) / columns)
    width = max(4.6, 0.15 + columns * (side + gap))
    figure = sheet(width, top + rows * (side + above) + 0.55, title)
    for c, name in enumerate(names):
        row, column = divmod(c, columns)
        axes = place(figure, gap + column * (side + gap), top + above + row * (side + above), side, side)
        last = c + columns >= classes
        area = evaluation.metrics["per_class"][c]["auc"]
        share = int((evaluation.labels == c).sum()) / n
        _roc_panel(axes, evaluation, c, area, split)
        axes.set_title(wrap(name, 22, 2), pad=15, fontsize=8, linespacing=1.15)
        said = "no area" if area is None else f"area {area:.3f}"
        axes.text(
            0, 1.03, f"{said}  ·  {100 * share:.1f} % of cells", transform=axes.transAxes, fontsize=7, color=MUTED
        )
        axes.tick_params(labelleft=column == 0, labelbottom=last, length=2)
        if last:
            axes.set_xlabel("false-positive rate", fontsize=7)
        if column == 0:
            axes.set_ylabel("true-positive rate", fontsize=7, labelpad=1)
    return figure


def _roc_panel(axes: Axes, evaluation: Evaluation, c: int, area: float | None, split: str) -> None:
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    if area is None:
        lacks = not (evaluation.labels == c).any()
        text = f"no such cells\nin {WORD[split]}" if lacks else f"{WORD[split]} holds\nno other class"
        axes.text(0.5, 0.5, text, ha="center", va="center", color=MUTED)
        return
    x, y = thin(*roc(evaluation.probabilities, evaluation.labels, c))
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1)
    axes.fill_between(x, y, color=LIGHT[split], alpha=0.13, linewidth=0)
    axes.plot(x, y, color=LIGHT[split])


def thin(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keep some 160 points of a ROC curve, (n,) each, spaced evenly along its length, the first and the last among them."""
    length = x + y  # both rise, so this is how far along the staircase a point lies
    kept = np.unique(np.searchsorted(length, np.linspace(length[0], length[-1], _POINTS)).clip(0, len(x) - 1))
    kept[0], kept[-1] = 0, len(x) - 1
    return x[kept], y[kept]
