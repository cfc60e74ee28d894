"""Accuracy against the number of training images, as a picture: what would more labels buy?"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from nephros.experiments.results import SeedResults
from nephros.reporting.plots.classification import PAGE_WIDTH
from nephros.reporting.plots.style import INK, LIGHT_COLORS, add_axes, new_figure, with_style

HEIGHT = 4.0
MARKERS = {"nephros": (LIGHT_COLORS["test"], "o"), "course-1": (LIGHT_COLORS["val"], "s")}
"""Recipe -> colour and marker; others are drawn in ink."""


@with_style
def plot_label_efficiency(results: Sequence[SeedResults]) -> Figure:
    """Draw each recipe's test accuracy against its training images on a logarithmic axis, every seed and the mean."""
    finished = [result for result in results if result.seeds]
    title = finished[0].infos[0].data["title"]
    figure = new_figure(PAGE_WIDTH, HEIGHT, title)
    axes = add_axes(figure, 0.75, 0.25, PAGE_WIDTH - 0.75 - 0.9, HEIGHT - 0.95)
    for name in dict.fromkeys(result.plan_row.recipe.name for result in finished):
        color, marker = MARKERS.get(name, (INK, "^"))
        series = [result for result in finished if result.plan_row.recipe.name == name]
        train_sizes = [sum(result.infos[0].class_counts["train"]) for result in series]
        means = [result.mean("accuracy") or 0.0 for result in series]
        axes.plot(train_sizes, means, color=color, linewidth=1.4)
        for n, result in zip(train_sizes, series, strict=True):
            values = result.values("accuracy")
            axes.plot([n] * len(values), values, marker, color=color, markersize=4, markeredgewidth=0, alpha=0.55)
        axes.annotate(
            f" {name}", (train_sizes[-1], means[-1]), xytext=(6, 0), textcoords="offset points", va="center", color=color,
            weight="bold", fontsize=8,
        )  # fmt: skip
    axes.set_xscale("log")
    ticks = sorted({sum(result.infos[0].class_counts["train"]) for result in finished})
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.grid(axis="y")
    axes.set_xlabel("training images; marks: each seed, line: mean over seeds; the same number of steps throughout")
    axes.set_ylabel("test accuracy")
    return figure
