"""Learning curves: accuracy, loss and learning rate by epoch. From data to a figure, without files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from nephros.evaluation.metrics import Metrics
from nephros.recipe import AugmentConfig, Recipe
from nephros.reporting.plots.style import INK, LIGHT_COLORS, LINE, PAGE_WIDTH, add_axes, new_figure, with_style
from nephros.training.history import EpochMetrics


def train_curve_label(recipe: Recipe) -> str:
    """Return the label of the training curves, such as ``train, during the epoch (augmented, with dropout)``."""
    conditions = [
        *(["augmented"] if recipe.augment != AugmentConfig() else []),
        *(["with dropout"] if recipe.model.dropout else []),
        *(["with label smoothing"] if recipe.label_smoothing else []),
        *(["with class weights"] if recipe.class_weights != "none" else []),
    ]
    return "train, during the epoch" + (f" ({', '.join(conditions)})" if conditions else "")


@with_style
def plot_learning_curves(
    history: Sequence[EpochMetrics],
    title: str,
    train_label: str = "train, during the epoch",
    chosen_epoch: int | None = None,
    train_metrics: Metrics | None = None,
) -> Figure:
    """Plot accuracy, loss and learning rate by epoch.

    Args:
        history: at least one epoch.
        title: the data's title.
        train_label: label of the training curves, which are means over an epoch while the weights changed.
        chosen_epoch: epoch (from 1) whose weights were kept; marked.
        train_metrics: metrics of those weights on train, in evaluation mode; a point at `chosen_epoch`.
    """
    figure = new_figure(PAGE_WIDTH, 3.2, title)
    top, width = 0.8, (PAGE_WIDTH - 0.55 * 3 - 0.15) / 3
    panels = [add_axes(figure, 0.5 + i * (width + 0.55), top, width, 1.75) for i in range(3)]
    epochs = [row.epoch for row in history]
    marker: dict[str, Any] = {"marker": "o", "markersize": 3} if len(history) < 30 else {}
    for axes, key, name in zip(panels, ("accuracy", "loss"), ("Accuracy", "Loss (nats per image)"), strict=False):
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
    # Steps read better on a logarithmic axis, a smooth decay to zero on a linear one.
    if min(learning_rates) > 0 and 50 < max(learning_rates) / min(learning_rates) < 1e4:
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
    train_metrics: Metrics | None,
) -> None:
    """Mark the chosen epoch with a line and a ring on the validation curve, and the final train metric with a diamond."""
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
        label=f"checkpoint (epoch {row.epoch})",
        **marker,
    )
    if train_metrics is not None:
        axes.plot(
            [row.epoch], [getattr(train_metrics, key)], color=LIGHT_COLORS["train"], marker="D", markersize=6, linestyle="none",
            label="train, evaluated with the checkpoint", zorder=3,
        )  # fmt: skip
