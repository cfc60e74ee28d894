"""What the epochs bought: the best score so far by epochs spent, and what random search is expected to have by then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nephros.reporting.plots.classification import WIDE
from nephros.reporting.plots.style import INK, LIGHT, LINE, MUTED, place, sheet, styled
from nephros.reporting.study.formatting import COLOUR, METRIC, counted
from nephros.reporting.study.learning_curves import limits
from nephros.reporting.study.view import View


@dataclass(frozen=True)
class Spending:
    """The study in the order bracket, rung, index, whatever the order it really ran in; so it is the same for any workers."""

    values: list[tuple[int, float]]
    """(epochs spent by then, metric) at the end of every closed rung of every configuration."""
    best: list[tuple[int, float]]
    """The same, of those alone that were the best so far."""
    starts: list[tuple[int, int]]
    """(s, epochs spent before) of every bracket that has begun."""
    total: int

    def best_at(self, epochs: float) -> float | None:
        """Return the best value after so many epochs; None before the first."""
        found = [value for spent, value in self.best if spent <= epochs]
        return found[-1] if found else None


@dataclass(frozen=True)
class RandomSearch:
    """What a random search is expected to have found, estimated from bracket s = 0, which is one."""

    values: tuple[float, ...]
    """Final metrics of the bracket's configurations, from worst to best; a failed one counts as the worst of the others."""
    failures: int
    cost: float
    """Epochs of one configuration, the mean."""
    better: tuple[float, ...]
    """Expected best of k = 1, 2 ... configurations drawn from them without repetition."""

    @property
    def n(self) -> int:
        """Configurations that it rests on."""
        return len(self.values)


def spending(view: View) -> Spending:
    """Return the values by epochs spent; an open rung's epochs are spent, but its scores do not count yet."""
    spent, values, best, starts = 0, list[tuple[int, float]](), list[tuple[int, float]](), list[tuple[int, int]]()
    for ending in view.endings:
        if ending.spent and (not starts or starts[-1][0] != ending.key[0]):
            starts.append((ending.key[0], spent))
        spent += ending.spent
        if ending.value is not None and ending.closed:
            values.append((spent, ending.value))
            if not best or view.better(ending.value, best[-1][1]):
                best.append((spent, ending.value))
    return Spending(values, best, starts, spent)


def random_search(view: View) -> RandomSearch | str:
    """Return the estimate, or a sentence that says why there is none."""
    found = next((standings for bracket, standings in view.brackets if bracket.s == 0), None)
    if found is None:
        return "Random search is not drawn: it would be read off bracket s = 0, which this study leaves out."
    if len(view.brackets) == 1:
        return "Random search is not drawn beside it: this study is bracket s = 0 alone, which is random search itself."
    if view.settings.sampler != "random":
        return (
            f"Random search is not drawn: the sampler {view.settings.sampler} chose the configurations of bracket s = 0 by "
            "what was learned before."
        )
    if found[0].promoted is None:
        return "Random search is not drawn yet: it is read off bracket s = 0, which has not come to its end."
    ends = [ending for ending in view.endings if ending.key[0] == 0]
    good = [ending.value for ending in ends if ending.value is not None]
    if not good:
        return "Random search is not drawn: all configurations of bracket s = 0 failed."
    lower = view.settings.lower_is_better
    failures = len(ends) - len(good)
    values = sorted([*good, *[max(good) if lower else min(good)] * failures], reverse=lower)
    cost = sum(ending.spent for ending in ends) / len(ends)
    return RandomSearch(tuple(values), failures, cost, expected_best(values))


def expected_best(values: Sequence[float]) -> tuple[float, ...]:
    """Return the expected best of k values drawn without repetition, k = 1 to n, from `values` that run from worst to best."""
    n = len(values)
    return tuple(
        math.fsum(value * math.comb(i, k - 1) for i, value in enumerate(values)) / math.comb(n, k)
        for k in range(1, n + 1)
    )


@styled
def budget(view: View, spent: Spending, rival: RandomSearch | str) -> Figure:
    """Draw every rung-end score and the best so far by epochs spent, with random search's expectation where there is one."""
    figure = sheet(WIDE, 3.95, view.title)
    axes = place(figure, 0.62, 0.62, WIDE - 0.8, 2.7)
    for s, start in spent.starts:
        axes.axvline(start, color=LINE, linewidth=0.7, zorder=0)
        axes.annotate(
            f"s = {s}", (start, 1), (3, -2), xycoords=("data", "axes fraction"), textcoords="offset points", va="top",
            fontsize=7, color=MUTED,
        )  # fmt: skip
    if spent.values:
        x, y = zip(*spent.values, strict=True)
        axes.plot(
            x,
            y,
            "o",
            color=LIGHT["train"],
            markersize=2.6,
            markeredgewidth=0,
            alpha=0.55,
            label="a score at a rung's end",
        )
    if isinstance(rival, RandomSearch):
        _rival(axes, rival, 5 if view.settings.lower_is_better else -9)
    if spent.best:
        x, y = zip(*spent.best, (spent.total, spent.best[-1][1]), strict=True)
        axes.plot(x, y, color=COLOUR["best"], drawstyle="steps-post", linewidth=1.9, label="this study: best so far")
        axes.plot(x[-2], y[-2], "o", color=COLOUR["best"], markersize=5)
    low, high, _ = limits(view)
    axes.set_ylim(low, high + 0.1 * (high - low))
    axes.set_xlim(0, max(1, spent.total) * 1.02)
    axes.set_xlabel("epochs spent, in the order bracket, rung, configuration")
    axes.set_ylabel(f"validation {METRIC[view.settings.metric]}")
    if view.settings.metric == "val_accuracy":
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.grid(axis="y")
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(0.06, 1), ncols=2, handlelength=2)
    return figure


def _rival(axes: Axes, rival: RandomSearch, lift: int) -> None:
    x = [rival.cost * k for k in range(1, rival.n + 1)]
    # The best of k is at worst the k-th from the bottom, and at best the very best.
    axes.fill_between(x, rival.values, rival.values[-1], color=LIGHT["val"], alpha=0.13, linewidth=0)
    words = f"random search: expected best, from {counted(rival.n, 'configuration')}"
    axes.plot(x, rival.better, color=LIGHT["val"], linestyle=(0, (5, 2)), marker="o", markersize=3.5, label=words)
    axes.annotate(
        f"{rival.n} drawn", (x[-1], rival.better[-1]), (5, lift), textcoords="offset points", fontsize=6.5, color=INK
    )
