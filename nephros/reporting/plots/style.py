"""How every figure looks: one set of colours for light and dark pages, one font, and the title of the data in a corner.

Figures are drawn in the light colours. In the page's inline SVG each of these is swapped for the CSS variable of its
name, so that one drawing suits both themes.
"""

from __future__ import annotations

import textwrap
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

LIGHT_COLORS = {
    "paper": "#fcfbf8",
    "ink": "#1b2026",
    "muted": "#5b636d",
    "line": "#d8d5cd",
    "train": "#69717b",
    "val": "#17699c",
    "test": "#b4510f",
}
"""Name of the CSS variable -> colour on a light page. Grey, blue and orange stay apart for every kind of colour blindness."""

PAPER, INK, MUTED, LINE = LIGHT_COLORS["paper"], LIGHT_COLORS["ink"], LIGHT_COLORS["muted"], LIGHT_COLORS["line"]

CLASS_COLORS = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#99331a", "#66ffb3", "#cce6ff",
    "#3380ff", "#80664d",
)  # fmt: skip
"""A class's colour on a dark picture. Seven of Okabe and Ito's palette without black, and five more, each as far as can be
(CIEDE2000, the three kinds of colour blindness simulated) from all before it and from greys."""

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
    "text.parse_math": False,  # a class may well be called $x$
    "text.usetex": False,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.6,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",
    "svg.hashsalt": "nephros",
}
"""Matplotlib settings under which figures are both made and saved."""

with_style = matplotlib.rc_context(RC_PARAMS)
"""Decorator: run a function under STYLE, and leave the caller's settings alone."""


def new_figure(width: float, height: float, title: str) -> Figure:
    """Return an empty figure of width x height inches with `title`, the data's provenance, small in its lower right corner."""
    figure = Figure(figsize=(width, height))
    figure.text(1 - 0.04 / width, 0.05 / height, title, ha="right", va="bottom", fontsize=6.5, color=MUTED)
    return figure


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes to `figure` at a distance in inches from its left and top edges."""
    figure_width, figure_height = figure.get_size_inches()
    bottom = figure_height - top - height
    return figure.add_axes((left / figure_width, bottom / figure_height, width / figure_width, height / figure_height))


def wrap_label(name: str, width: int, lines: int = 3) -> str:
    """Break a name into at most `lines` lines of up to `width` characters, of even length; an ellipsis ends what is over."""
    name = name.strip() or "(no name)"
    wrapped = textwrap.wrap(name, width, max_lines=lines, placeholder=" …")
    for narrower in range(width - 1, 7, -1):
        candidate = textwrap.wrap(name, narrower, max_lines=lines, placeholder=" …", break_long_words=False)
        if len(candidate) != len(wrapped) or "…" in candidate[-1] or max(map(len, candidate)) > narrower:
            break
        wrapped = candidate
    return "\n".join(wrapped)


def format_percent(fraction: float) -> str:
    """Return a share of 1 as a percentage that tells small from none: 0 %, <1 %, 32 %."""
    return "<1 %" if 0 < fraction < 0.005 else f"{100 * fraction:.0f} %"
