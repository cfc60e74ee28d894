"""The best score so far by epochs spent, and the expected best of random search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nephros.reporting.plots.style import (
    INK,
    LIGHT_COLORS,
    LINE,
    MUTED,
    PAGE_WIDTH,
    SMALL,
    add_axes,
    new_figure,
    percent_axis,
    with_style,
)
from nephros.reporting.study.formatting import METRIC_NAMES, STATUS_COLORS
from nephros.reporting.study.learning_curves import value_limits
from nephros.reporting.study.view import StudyView
from nephros.text_tables import pluralize


@dataclass(frozen=True)
class BudgetCurve:
    """Scores by epochs spent, in the order bracket, rung, index, so that the number of workers makes no difference."""

    rung_scores: list[tuple[int, float]]
    """(epochs spent so far, metric) of each configuration at the end of each closed rung."""
    best_so_far: list[tuple[int, float]]
    """Those of rung_scores that were the best so far."""
    bracket_starts: list[tuple[int, int]]
    """(s, epochs spent before) of each bracket that has started."""
    total_epochs: int

    def best_at(self, epochs: float) -> float | None:
        """Return the best value once `epochs` are spent; None before the first."""
        values = [value for epochs_spent, value in self.best_so_far if epochs_spent <= epochs]
        return values[-1] if values else None


@dataclass(frozen=True)
class RandomBaseline:
    """The expected best of random search, estimated from bracket s = 0, which is a random search."""

    values: tuple[float, ...]
    """Final metrics of the bracket's configurations, from worst to best; a failure counts as the worst of the others."""
    n_failures: int
    epochs_per_config: float
    """Mean epochs per configuration."""
    expected_best: tuple[float, ...]
    """Expected best of k = 1, 2, ... of these configurations, drawn without replacement."""

    @property
    def n_configs(self) -> int:
        """Number of configurations behind the estimate."""
        return len(self.values)


def compute_budget_curve(view: StudyView) -> BudgetCurve:
    """Return the scores by epochs spent; an open rung's epochs are spent, but its scores don't count yet."""
    epochs_spent, values, best, starts = (
        0,
        list[tuple[int, float]](),
        list[tuple[int, float]](),
        list[tuple[int, int]](),
    )
    for rung_result in view.rung_results:
        if rung_result.epochs_spent and (not starts or starts[-1][0] != rung_result.key[0]):
            starts.append((rung_result.key[0], epochs_spent))
        epochs_spent += rung_result.epochs_spent
        if rung_result.value is not None and rung_result.rung_closed:
            values.append((epochs_spent, rung_result.value))
            if not best or view.is_better(rung_result.value, best[-1][1]):
                best.append((epochs_spent, rung_result.value))
    return BudgetCurve(values, best, starts, epochs_spent)


def estimate_random_baseline(view: StudyView) -> RandomBaseline | str:
    """Return the estimate, or a sentence with the reason why there is none."""
    rung_states = next((states for bracket, states in view.brackets if bracket.s == 0), None)
    if rung_states is None:
        return "Random search is not shown: it is estimated from bracket s = 0, which this study leaves out."
    if len(view.brackets) == 1:
        return "Random search is not shown: bracket s = 0, the only one of this study, is random search itself."
    if view.settings.sampler != "random":
        return (
            f"Random search is not shown: the sampler {view.settings.sampler} chose the configurations of bracket s = 0 from "
            "earlier results."
        )
    if rung_states[0].promoted is None:
        return "Random search is not shown yet: it is estimated from bracket s = 0, which has not finished."
    final_results = [rung_result for rung_result in view.rung_results if rung_result.key[0] == 0]
    finite_values = [rung_result.value for rung_result in final_results if rung_result.value is not None]
    if not finite_values:
        return "Random search is not shown: all configurations of bracket s = 0 failed."
    lower_is_better = view.settings.lower_is_better
    n_failures = len(final_results) - len(finite_values)
    values = sorted(
        [*finite_values, *[max(finite_values) if lower_is_better else min(finite_values)] * n_failures],
        reverse=lower_is_better,
    )
    epochs_per_config = sum(rung_result.epochs_spent for rung_result in final_results) / len(final_results)
    return RandomBaseline(tuple(values), n_failures, epochs_per_config, expected_best(values))


def expected_best(values: Sequence[float]) -> tuple[float, ...]:
    """Return the expected best of k = 1 to n of `values`, drawn without replacement; `values` run from worst to best."""
    n = len(values)
    return tuple(
        math.fsum(value * math.comb(i, k - 1) for i, value in enumerate(values)) / math.comb(n, k)
        for k in range(1, n + 1)
    )


@with_style
def plot_budget_curve(view: StudyView, budget_curve: BudgetCurve, random_baseline: RandomBaseline | str) -> Figure:
    """Plot each score and the best so far by epochs spent, with random search's expected best where there is one."""
    figure = new_figure(PAGE_WIDTH, 3.95, view.data_title)
    axes = add_axes(figure, 0.7, 0.62, PAGE_WIDTH - 0.88, 2.7)
    for s, start in budget_curve.bracket_starts:
        axes.axvline(start, color=LINE, linewidth=0.7, zorder=0)
        axes.annotate(
            f"s = {s}", (start, 1), (3, -2), xycoords=("data", "axes fraction"), textcoords="offset points", va="top",
            fontsize=SMALL, color=MUTED,
        )  # fmt: skip
    if budget_curve.rung_scores:
        x, y = zip(*budget_curve.rung_scores, strict=True)
        axes.plot(
            x,
            y,
            "o",
            color=LIGHT_COLORS["train"],
            markersize=2.6,
            markeredgewidth=0,
            alpha=0.55,
            label="score at the end of a rung",
        )
    if isinstance(random_baseline, RandomBaseline):
        _draw_random_baseline(axes, random_baseline, 5 if view.settings.lower_is_better else -9)
    if budget_curve.best_so_far:
        x, y = zip(*budget_curve.best_so_far, (budget_curve.total_epochs, budget_curve.best_so_far[-1][1]), strict=True)
        axes.plot(
            x, y, color=STATUS_COLORS["best"], drawstyle="steps-post", linewidth=1.9, label="this study: best so far"
        )
        axes.plot(x[-2], y[-2], "o", color=STATUS_COLORS["best"], markersize=5)
    low, high, _ = value_limits(view)
    axes.set_ylim(low, high + 0.1 * (high - low))
    axes.set_xlim(0, max(1, budget_curve.total_epochs) * 1.02)
    axes.set_xlabel("epochs spent, in order of bracket, rung and configuration")
    axes.set_ylabel(f"validation {METRIC_NAMES[view.settings.metric]}")
    if view.settings.metric == "val_accuracy":
        percent_axis(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.grid(axis="y")
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(0.06, 1), ncols=2, handlelength=2)
    return figure


def _draw_random_baseline(axes: Axes, random_baseline: RandomBaseline, label_offset: int) -> None:
    x = [random_baseline.epochs_per_config * k for k in range(1, random_baseline.n_configs + 1)]
    # The best of k is at worst the k-th lowest value, and at best the highest.
    axes.fill_between(
        x, random_baseline.values, random_baseline.values[-1], color=LIGHT_COLORS["val"], alpha=0.13, linewidth=0
    )
    label = f"random search: expected best, from {pluralize(random_baseline.n_configs, 'configuration')}"
    axes.plot(
        x,
        random_baseline.expected_best,
        color=LIGHT_COLORS["val"],
        linestyle=(0, (5, 2)),
        marker="o",
        markersize=3.5,
        label=label,
    )
    axes.annotate(
        f"all {random_baseline.n_configs}",
        (x[-1], random_baseline.expected_best[-1]),
        (5, label_offset),
        textcoords="offset points",
        fontsize=SMALL,
        color=INK,
    )
