"""Style of every figure: one set of colors for light and dark pages, one font, and the data's title in a corner.

Figures are drawn in the light colors. In a page's inline SVG each of these is replaced by the CSS variable of its name, so
that one drawing suits both themes.
"""

from __future__ import annotations

import textwrap
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

LIGHT_COLORS = {
    "paper": "#fcfbf8",
    "ink": "#1b2026",
    "muted": "#5b636d",
    "line": "#d8d5cd",
    "train": "#69717b",
    "val": "#17699c",
    "test": "#b4510f",
    "right": "#00504b",
    "wrong": "#7d1530",
}
"""CSS variable -> color on a light page. Gray, blue and orange are distinct for every kind of color blindness; the teal of right
predictions and the crimson of wrong ones differ in place too, on and off a matrix's diagonal."""

DARK_COLORS = {
    "paper": "#111418",
    "ink": "#ebe8e1",
    "muted": "#a2a8b0",
    "line": "#343a43",
    "train": "#9aa2ad",
    "val": "#6bb8ea",
    "test": "#f0985a",
    "right": "#46c2b5",
    "wrong": "#f08aa0",
}
"""The same on a dark page."""

PAGE_WIDTH, WIDE_WIDTH, HALF_WIDTH = 7.4, 10.0, 4.8
"""Widths of a figure beside its text, across the page, and across half of it, in inches."""
SMALL = 7.2
"""Size of the smallest text of a figure, in points: 11 pixels on a page 1280 pixels wide."""

PAPER, INK, MUTED, LINE = LIGHT_COLORS["paper"], LIGHT_COLORS["ink"], LIGHT_COLORS["muted"], LIGHT_COLORS["line"]

RC_PARAMS: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "text.color": INK,
    "text.parse_math": False,  # a class may be named $x$
    "text.usetex": False,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.6,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",
    "svg.hashsalt": "nephros",
}
"""Matplotlib settings for making and saving figures."""

with_style = matplotlib.rc_context(RC_PARAMS)
"""Decorator: run a function under RC_PARAMS, without touching the caller's settings."""


def new_figure(width: float, height: float, title: str) -> Figure:
    """Return an empty figure of width x height inches with `title`, that of the data, small in its lower right corner."""
    figure = Figure(figsize=(width, height))
    figure.text(1 - 0.04 / width, 0.05 / height, title, ha="right", va="bottom", fontsize=SMALL, color=MUTED)
    return figure


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes to `figure`; position, from its left and top edges, and size are in inches."""
    figure_width, figure_height = figure.get_size_inches()
    bottom = figure_height - top - height
    return figure.add_axes((left / figure_width, bottom / figure_height, width / figure_width, height / figure_height))


def wrap_label(name: str, width: int, lines: int = 3) -> str:
    """Wrap a name into at most `lines` lines, of similar length, of up to `width` characters; an ellipsis marks what is cut."""
    name = name.strip() or "(no name)"
    wrapped = textwrap.wrap(name, width, max_lines=lines, placeholder=" …")
    for narrower in range(width - 1, 7, -1):
        candidate = textwrap.wrap(name, narrower, max_lines=lines, placeholder=" …", break_long_words=False)
        if len(candidate) != len(wrapped) or "…" in candidate[-1] or max(map(len, candidate)) > narrower:
            break
        wrapped = candidate
    return "\n".join(wrapped)


def percent_axis(axis: Axis) -> None:
    """Label an axis of fractions in percent, with as many decimals as its ticks need."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")


def whole_percent(fraction: float) -> str:
    """Return a fraction as a whole percentage, with small ones distinct from none: 0%, <1%, 32%."""
    return "<1%" if 0 < fraction < 0.005 else f"{100 * fraction:.0f}%"
