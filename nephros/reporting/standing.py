"""The run among published TissueMNIST results: which rows, in what words, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from nephros.evaluation.published import published
from nephros.reporting.figures import WIDE
from nephros.reporting.style import INK, LIGHT, MUTED, place, sheet, styled

KEY = "tissuemnist"
"""The catalogue's key of the set that the published results are of."""


@dataclass(frozen=True)
class Standing:
    """One row: somebody's result, or this run's."""

    method: str
    input: str
    accuracy: float
    low: float | None
    high: float | None
    """Ends of the run's 95 % interval, or one published standard deviation either way; None where there is neither."""
    auc: float | None
    split: str
    source: str
    address: str
    note: str
    own: bool
    """Whether it is this run."""


def standings(run: Standing) -> list[Standing]:
    """Return the published rows with the run among them, the highest accuracy first."""
    rows = [run]
    for row in published():
        spread = row.accuracy_sd
        low, high = (None, None) if spread is None else (row.accuracy - spread, row.accuracy + spread)
        words = (f"{row.split} test", row.source, row.address, row.note)
        rows.append(Standing(row.method, row.input, row.accuracy, low, high, row.auc, *words, own=False))
    return sorted(rows, key=lambda row: -row.accuracy)


@styled
def standing(rows: Sequence[Standing], split: str, title: str) -> Figure:
    """Draw the accuracies as dots on one scale, the run's in the colour of its `split`, other splits than the official hollow."""
    step = 0.235
    figure = sheet(WIDE, 0.55 + step * len(rows) + 0.45, title)
    axes = place(figure, 3.3, 0.1, WIDE - 3.3 - 0.6, step * len(rows) + 0.1)
    for place_, row in enumerate(rows):
        colour = LIGHT[split] if row.own else MUTED
        filled = colour if row.own or row.split.startswith("official") else "none"
        axes.plot([0, row.accuracy], [place_, place_], color=colour, linewidth=0.5, alpha=0.55)
        if row.low is not None and row.high is not None:
            axes.plot(
                [row.low, row.high], [place_, place_], color=colour, linewidth=3, alpha=0.5, solid_capstyle="butt"
            )
        axes.plot(
            [row.accuracy], [place_], marker="o", markersize=8 if row.own else 5.5, color=colour, markerfacecolor=filled,
            linestyle="none", zorder=3,
        )  # fmt: skip
        axes.annotate(
            f"{100 * row.accuracy:.1f} %", (row.accuracy, place_), xytext=(8, 0), textcoords="offset points", va="center",
            fontsize=7.5, color=colour, weight="bold" if row.own else "normal",
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [f"{row.method}  ({row.input})" for row in rows], fontsize=6.8, color=INK)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        if row.own:
            label.set(color=LIGHT[split], weight="bold")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    lowest = min(row.accuracy for row in rows)
    axes.set_xlim(max(0.0, int(lowest * 10 - 0.5) / 10), max(row.accuracy for row in rows) + 0.01)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlabel("accuracy; filled: official test split, hollow: another split")
    axes.spines["left"].set_visible(False)
    return figure
