"""Importance of the searched fields for the first scores: Optuna's fANOVA, compared with shuffled scores."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from nephros.reporting.plots.style import (
    INK,
    LIGHT_COLORS,
    MUTED,
    PAGE_WIDTH,
    SMALL,
    add_axes,
    new_figure,
    percent_axis,
    with_style,
)
from nephros.reporting.study.formatting import choice_key
from nephros.reporting.study.view import StudyView
from nephros.tuning.hyperband import is_failed
from nephros.tuning.space import Dimension
from nephros.tuning.study_state import Config

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MIN_CONFIGS = 12
"""Fewest configurations from which importance is computed."""
N_SHUFFLES = 20
_N_TREES = 32


@dataclass(frozen=True)
class Importance:
    """Share of the variance of the configurations' ranks that each field explains alone."""

    shares: dict[str, float]
    """Field -> share, the largest first; the rest to 1 is interactions between fields."""
    chance_level: dict[str, float]
    """Field -> its largest share over N_SHUFFLES shuffles of the scores."""
    n_configs: int
    epochs: int
    """Epochs after which all configurations were scored."""
    bracket: int
    n_failures: int
    conditional_fields: tuple[str, ...]
    """Fields that only some configurations have."""


def compute_importance(view: StudyView) -> Importance | str:
    """Return the fields' importance, or a sentence with the reason why there is none.

    Scores after different numbers of epochs can't be compared, so this uses the first rung of the largest bracket whose first
    rung is closed. Ranks stand for scores, as in Hyperband: a diverged loss would dominate the variance.
    """
    closed = [(bracket, states[0]) for bracket, states in view.brackets if states[0].promoted is not None]
    if not closed:
        return "Not computed yet: no bracket's first rung is closed."
    bracket, first_rung = max(closed, key=lambda pair: pair[0].n_configs)
    scored = [index for index in first_rung.members if not is_failed(first_rung.scores[index])]
    if len(scored) < MIN_CONFIGS:
        return (
            f"Not computed: it needs {MIN_CONFIGS} scores after the same number of epochs, and there are {len(scored)}."
        )
    configs = [view.study_state.configs[bracket.s, index] for index in scored]
    dimensions = [dimension for dimension in view.space if _is_varied(dimension, configs)]
    if len(dimensions) < 2:
        return "Not computed: fewer than two fields vary over all configurations."
    scores = [first_rung.scores[index] or 0.0 for index in scored]
    ranks = [float(sorted(scores).index(score)) for score in scores]
    if len(set(ranks)) < 2:
        return "Not computed: all configurations have the same score."
    shares = _main_effects(dimensions, configs, ranks)
    rng = random.Random(0)
    shuffled_shares = [_main_effects(dimensions, configs, rng.sample(ranks, len(ranks))) for _ in range(N_SHUFFLES)]
    chance_level = {key: max(shares_of_shuffle[key] for shares_of_shuffle in shuffled_shares) for key in shares}
    conditional_fields = tuple(d.key for d in view.space if any(d.key not in config.params for config in configs))
    n_failures = len(first_rung.members) - len(scored)
    return Importance(
        shares, chance_level, len(scored), first_rung.rung.epochs, bracket.s, n_failures, conditional_fields
    )


def _is_varied(dimension: Dimension, configs: Sequence[Config]) -> bool:
    key = dimension.key
    return (
        all(key in config.params for config in configs)
        and len({choice_key(config.params[key]) for config in configs}) > 1
    )


def _main_effects(
    dimensions: Sequence[Dimension], configs: Sequence[Config], ranks: Sequence[float]
) -> dict[str, float]:
    """Return fANOVA's main effects, the largest first; deterministic."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {dimension.key: _distribution(dimension) for dimension in dimensions}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study()
        for config, rank in zip(configs, ranks, strict=True):
            values = {d.key: _encode(d, config.params[d.key]) for d in dimensions}
            study.add_trial(optuna.trial.create_trial(value=rank, params=values, distributions=distributions))
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=_N_TREES, seed=0)
        effects = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)
    return {key: float(value) for key, value in sorted(effects.items(), key=lambda item: (-item[1], item[0]))}


def _encode(dimension: Dimension, value: Any) -> Any:
    return choice_key(value) if dimension.kind == "categorical" else value


def _distribution(dimension: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.kind == "categorical":
        return CategoricalDistribution([choice_key(choice) for choice in dimension.choices])
    if dimension.kind == "int":
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


@with_style
def plot_importance(importance: Importance, title: str) -> Figure:
    """Plot each field's share as a bar, blue where it exceeds chance, with a tick at the chance level."""
    row_height, left = 0.3, 1.75
    height = 0.45 + row_height * len(importance.shares) + 0.55
    figure = new_figure(PAGE_WIDTH, height, title)
    axes = add_axes(figure, left, 0.4, PAGE_WIDTH - left - 0.6, row_height * len(importance.shares))
    for row, (key, share) in enumerate(importance.shares.items()):
        above_chance = share > importance.chance_level[key]
        axes.barh(
            row,
            share,
            height=0.56,
            color=LIGHT_COLORS["val" if above_chance else "train"],
            alpha=1 if above_chance else 0.55,
        )
        axes.plot([importance.chance_level[key]] * 2, [row - 0.38, row + 0.38], color=INK, linewidth=1.2)
        axes.annotate(
            f"{100 * share:.0f}%", (1, row), (8, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            va="center", fontsize=7.5, color=INK if above_chance else MUTED, weight="bold" if above_chance else "normal",
        )  # fmt: skip
    axes.set_yticks(range(len(importance.shares)), list(importance.shares), color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(importance.shares) - 0.5, -0.5)
    axes.set_xlim(0, max(*importance.shares.values(), *importance.chance_level.values()) * 1.04)
    percent_axis(axes.xaxis)
    axes.set_xlabel("share of the variance of ranks that the field explains alone")
    axes.spines["left"].set_visible(False)
    figure.text(
        0.1 / PAGE_WIDTH, 1 - 0.14 / height, f"blue: above chance   ·   tick: highest of {N_SHUFFLES} shuffles of the scores",
        fontsize=SMALL, color=MUTED, va="center",
    )  # fmt: skip
    return figure
