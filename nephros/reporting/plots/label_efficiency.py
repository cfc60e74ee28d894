"""Accuracy against the number of training images, as a picture: what would more labels buy?"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from nephros.experiments.results import Finished
from nephros.reporting.plots.classification import WIDE
from nephros.reporting.plots.style import INK, LIGHT, place, sheet, styled

HEIGHT = 4.0
MARKS = {"nephros": (LIGHT["test"], "o"), "course-1": (LIGHT["val"], "s")}
"""Recipe -> colour and marker; others are drawn in ink."""


@styled
def labels_figure(found: Sequence[Finished]) -> Figure:
    """Draw each recipe's test accuracy against its training images on a logarithmic axis, every seed and the mean."""
    runs = [one for one in found if one.seeds]
    title = runs[0].infos[0].data["title"]
    figure = sheet(WIDE, HEIGHT, title)
    axes = place(figure, 0.75, 0.25, WIDE - 0.75 - 0.9, HEIGHT - 0.95)
    for name in dict.fromkeys(one.row.recipe.name for one in runs):
        colour, marker = MARKS.get(name, (INK, "^"))
        rows = [one for one in runs if one.row.recipe.name == name]
        images = [sum(one.infos[0].class_counts["train"]) for one in rows]
        means = [one.mean("accuracy") or 0.0 for one in rows]
        axes.plot(images, means, color=colour, linewidth=1.4)
        for n, one in zip(images, rows, strict=True):
            values = one.values("accuracy")
            axes.plot([n] * len(values), values, marker, color=colour, markersize=4, markeredgewidth=0, alpha=0.55)
        axes.annotate(
            f" {name}", (images[-1], means[-1]), xytext=(6, 0), textcoords="offset points", va="center", color=colour,
            weight="bold", fontsize=8,
        )  # fmt: skip
    axes.set_xscale("log")
    ticks = sorted({sum(one.infos[0].class_counts["train"]) for one in runs})
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.grid(axis="y")
    axes.set_xlabel("training images; marks: each seed, line: mean over seeds; the same number of steps throughout")
    axes.set_ylabel("test accuracy")
    return figure
