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

from nephros.data.dataset import SPLIT_ADJECTIVES
from nephros.evaluation.metrics import class_roc_curve
from nephros.evaluation.scoring import Evaluation
from nephros.recipe import AugmentConfig, Recipe
from nephros.reporting.plots.classification import PAGE_WIDTH
from nephros.reporting.plots.style import INK, LIGHT_COLORS, LINE, MUTED, add_axes, new_figure, with_style, wrap_label
from nephros.training.history import EpochMetrics

_MAX_POINTS = 160


def train_curve_label(recipe: Recipe) -> str:
    """Say how the running training figures were taken, such as ``train (running: augmented, dropout on)``."""
    conditions = [
        *(["augmented"] if recipe.augment != AugmentConfig() else []),
        *(["dropout on"] if recipe.model.dropout else []),
        *(["labels smoothed"] if recipe.label_smoothing else []),
        *(["classes weighted"] if recipe.class_weights != "none" else []),
    ]
    return f"train (running: {', '.join(conditions) or 'weights still moving'})"


@with_style
def plot_learning_curves(
    history: Sequence[EpochMetrics],
    title: str,
    train_label: str = "train (running: augmented, dropout on)",
    chosen_epoch: int | None = None,
    train_metrics: dict[str, Any] | None = None,
) -> Figure:
    """Draw accuracy, loss and learning rate by epoch.

    Args:
        history: at least one epoch.
        title: the data's provenance.
        running: the label of the training curves, which are means over an epoch while the weights moved.
        chosen: the epoch (from 1) whose weights were kept; marked.
        final: metrics of the train split by those weights in evaluation mode; drawn as a point at `chosen_epoch`.
    """
    figure = new_figure(PAGE_WIDTH, 3.9, title)
    top, width = 0.85, (PAGE_WIDTH - 0.55 * 3 - 0.15) / 3
    panels = [add_axes(figure, 0.5 + i * (width + 0.55), top, width, 2.35) for i in range(3)]
    epochs = [row.epoch for row in history]
    marker: dict[str, Any] = {"marker": "o", "markersize": 3} if len(history) < 30 else {}
    for axes, key, name in zip(panels, ("accuracy", "loss"), ("Accuracy", "Loss, nats an image"), strict=False):
        train = [getattr(row, f"train_{key}") for row in history]
        val = [getattr(row, f"val_{key}") for row in history]
        axes.plot(epochs, train, color=LIGHT_COLORS["train"], linestyle=(0, (5, 2)), label=train_label, **marker)
        axes.plot(epochs, val, color=LIGHT_COLORS["val"], label="validation", **marker)
        axes.set_title(name)
        axes.grid(axis="y")
        _mark_chosen_epoch(axes, history, key, chosen_epoch, train_metrics)
    panels[2].plot(epochs, [row.lr for row in history], color=INK, drawstyle="steps-mid", **marker)
    panels[2].set_title("Learning rate")
    learning_rates = [row.lr for row in history]
    if (
        min(learning_rates) > 0 and 50 < max(learning_rates) / min(learning_rates) < 1e4
    ):  # stairs; a rate that glides to zero reads better straight
        panels[2].set_yscale("log")
        panels[2].yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
        panels[2].yaxis.set_minor_formatter(NullFormatter())
    else:
        panels[2].set_ylim(0, max(learning_rates) * 1.1)
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper left", bbox_to_anchor=(0.045, 1.0), ncols=2, handlelength=2.6)
    return figure


def _mark_chosen_epoch(
    axes: Axes,
    history: Sequence[EpochMetrics],
    key: str,
    chosen_epoch: int | None,
    train_metrics: dict[str, Any] | None,
) -> None:
    """Mark the chosen epoch by a line and a ring on the validation curve, and the train split's final score by a diamond."""
    row = next((row for row in history if row.epoch == chosen_epoch), None)
    if row is None:
        return
    axes.axvline(row.epoch, color=LINE, linewidth=1, zorder=0)
    marker: dict[str, Any] = {"marker": "o", "markersize": 8, "linestyle": "none"}
    axes.plot(
        [row.epoch],
        [getattr(row, f"val_{key}")],
        color=LIGHT_COLORS["val"],
        fillstyle="none",
        label=f"epoch {row.epoch}: weights kept",
        **marker,
    )
    if train_metrics is not None and train_metrics.get(key) is not None:
        axes.plot(
            [row.epoch], [train_metrics[key]], color=LIGHT_COLORS["train"], marker="D", markersize=6, linestyle="none",
            label="train, evaluation mode, weights kept", zorder=3,
        )  # fmt: skip


@with_style
def plot_roc_curves(evaluation: Evaluation, class_names: Sequence[str], split: str, title: str) -> Figure:
    """Draw one panel a class: the ROC curve of its score against all other classes, its area, and its share of the cells.

    A class that the labels lack, or that is all they hold, has no curve, and its panel says so. Areas are those of
    ``evaluation.metrics``; curves are thinned to at most some 160 points, which no eye can tell.
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
        auc = evaluation.metrics["per_class"][c]["auc"]
        share = int((evaluation.labels == c).sum()) / n
        _roc_panel(axes, evaluation, c, auc, split)
        axes.set_title(wrap_label(name, 22, 2), pad=15, fontsize=8, linespacing=1.15)
        auc_text = "no area" if auc is None else f"area {auc:.3f}"
        axes.text(
            0, 1.03, f"{auc_text}  ·  {100 * share:.1f} % of cells", transform=axes.transAxes, fontsize=7, color=MUTED
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
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    if auc is None:
        is_absent = not (evaluation.labels == c).any()
        text = (
            f"no such cells\nin {SPLIT_ADJECTIVES[split]}"
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
    """Keep some 160 points of a ROC curve, (n,) each, spaced evenly along its length, the first and the last among them."""
    length = x + y  # both rise, so this is how far along the staircase a point lies
    indices = np.unique(np.searchsorted(length, np.linspace(length[0], length[-1], _MAX_POINTS)).clip(0, len(x) - 1))
    indices[0], indices[-1] = 0, len(x) - 1
    return x[indices], y[indices]
