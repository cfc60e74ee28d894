"""The plot of the comparison: the best so far by epochs spent and by wall time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.tuners.curves import Floats, best_so_far, median_and_range
from benchmarks.tuners.run import TunerRun
from benchmarks.tuners.table import NAMES, by_method
from nephros.reporting.html import save_figure
from nephros.reporting.plots.style import INK, LIGHT_COLORS, add_axes, new_figure, with_style

LINE_STYLES = {
    "nephros": (LIGHT_COLORS["val"], "-"),
    "random": (LIGHT_COLORS["train"], "-"),
    "optuna": (LIGHT_COLORS["test"], "-"),
    "ray": (INK, (0, (4, 1.5))),
}
"""Method -> color and line style, distinct for every kind of color blindness."""
WIDTH, HEIGHT = 7.2, 3.0
Y_RANGE = 0.12
"""Range of the y axis below the best of all: the first epochs, of a few percent, would flatten the rest."""


def plot_comparison(records: list[TunerRun], data_title: str, file: Path) -> None:
    """Write the plot as PNG and, beside it, SVG."""
    seeds = len({record.config.seed for record in records})
    alt = "Best validation accuracy so far of each method, left against epochs spent, right against seconds."
    save_figure(_figure(records, data_title, seeds), file, alt)


@with_style
def _figure(records: list[TunerRun], data_title: str, seeds: int) -> Figure:
    figure = new_figure(WIDTH, HEIGHT, data_title)
    # The legend is above both panels, clear of the lines.
    left, right = (add_axes(figure, x, 0.62, 3.05, 1.85) for x in (0.5, 3.95))
    right.sharey(left)
    for method, method_records in by_method(records).items():
        runs = [best_so_far(record) for record in method_records]
        _draw_method(left, method, [(epochs, best) for epochs, _, best in runs])
        _draw_method(right, method, [(seconds, best) for _, seconds, best in runs])
    highest = max(float(np.max(best_so_far(record)[2])) for record in records)
    left.set_ylim(max(0.0, highest - Y_RANGE), highest + 0.008)
    spread_text = "median and range of the seeds" if seeds > 1 else "one seed"
    figure.text(
        0.5 / WIDTH, 1 - 0.1 / HEIGHT, f"Best validation accuracy so far ({spread_text})", va="top", fontweight="bold"
    )
    for axes, label in ((left, "epochs spent, over all trials"), (right, "seconds, start-up included")):
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(axis="y")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper left", bbox_to_anchor=(0.3 / WIDTH, 1 - 0.28 / HEIGHT), ncols=len(labels))
    return figure


def _draw_method(axes: Axes, method: str, curves: list[tuple[Floats, Floats]]) -> None:
    """Plot the seeds' median as steps and their range as a band; a finished seed keeps its best."""
    color, line_style = LINE_STYLES[method]
    grid = np.unique(np.concatenate([xs for xs, _ in curves]))
    median, low, high = median_and_range(curves, grid)
    axes.step(grid, median, where="post", color=color, linestyle=line_style, label=NAMES[method])
    axes.fill_between(grid, low, high, step="post", color=color, alpha=0.15, linewidth=0)
