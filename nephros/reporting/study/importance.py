"""Which searched fields the first scores hang on: Optuna's fANOVA, beside what it makes of scores that hang on nothing."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from nephros.reporting.plots.classification import WIDE
from nephros.reporting.plots.style import INK, LIGHT, MUTED, place, sheet, styled
from nephros.reporting.study.formatting import same
from nephros.reporting.study.view import View
from nephros.tuning.dimension import Dimension
from nephros.tuning.hyperband import failed
from nephros.tuning.study_state import Config

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

LEAST = 12
"""Configurations below which nothing is said."""
SHUFFLES = 20
_TREES = 32


@dataclass(frozen=True)
class Importance:
    """How much of the spread of the configurations' ranks each field explains alone."""

    shares: dict[str, float]
    """Field -> share, the largest first; what they lack of 1 is the fields' interplay."""
    chance: dict[str, float]
    """Field -> the largest share that it got of scores that were shuffled, in SHUFFLES tries."""
    configs: int
    epochs: int
    """At which all of them were scored."""
    s: int
    failures: int
    left_out: tuple[str, ...]
    """Fields that only some configurations have."""


def importance(view: View) -> Importance | str:
    """Return the fields' importance, or a sentence that says why there is none.

    Scores after different numbers of epochs can't be compared, so it is of the first rung of the largest bracket whose
    first rung is closed. Ranks stand for scores, as they do in Hyperband: a loss that went astray would drown the rest.
    """
    closed = [(bracket, found[0]) for bracket, found in view.brackets if found[0].promoted is not None]
    if not closed:
        return "Not worked out yet: no bracket's first rung is closed."
    bracket, rung = max(closed, key=lambda pair: pair[0].configs)
    there = [index for index in rung.members if not failed(rung.scores[index])]
    if len(there) < LEAST:
        return f"Not worked out: it takes {LEAST} scores after the same number of epochs, and there are {len(there)}."
    configs = [view.records.configs[bracket.s, index] for index in there]
    dimensions = [dimension for dimension in view.space if _varied(dimension, configs)]
    if len(dimensions) < 2:
        return "Not worked out: fewer than two fields were varied in all configurations."
    scores = [rung.scores[index] or 0.0 for index in there]
    ranks = [float(sorted(scores).index(score)) for score in scores]
    if len(set(ranks)) < 2:
        return "Not worked out: all configurations have the same score."
    shares = _shares(dimensions, configs, ranks)
    draws = random.Random(0)
    shuffled = [_shares(dimensions, configs, draws.sample(ranks, len(ranks))) for _ in range(SHUFFLES)]
    chance = {key: max(each[key] for each in shuffled) for key in shares}
    left_out = tuple(d.key for d in view.space if any(d.key not in config.params for config in configs))
    failures = len(rung.members) - len(there)
    return Importance(shares, chance, len(there), rung.rung.epochs, bracket.s, failures, left_out)


def _varied(dimension: Dimension, configs: Sequence[Config]) -> bool:
    key = dimension.key
    return all(key in config.params for config in configs) and len({same(config.params[key]) for config in configs}) > 1


def _shares(dimensions: Sequence[Dimension], configs: Sequence[Config], ranks: Sequence[float]) -> dict[str, float]:
    """Return fANOVA's main effects, the largest first; the same whenever it is asked again."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spread = {dimension.key: _distribution(dimension) for dimension in dimensions}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study()
        for config, rank in zip(configs, ranks, strict=True):
            values = {d.key: _stored(d, config.params[d.key]) for d in dimensions}
            study.add_trial(optuna.trial.create_trial(value=rank, params=values, distributions=spread))
        judge = optuna.importance.FanovaImportanceEvaluator(n_trees=_TREES, seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=judge, normalize=False)
    return {key: float(value) for key, value in sorted(found.items(), key=lambda item: (-item[1], item[0]))}


def _stored(dimension: Dimension, value: Any) -> Any:
    return same(value) if dimension.kind == "categorical" else value


def _distribution(dimension: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.kind == "categorical":
        return CategoricalDistribution([same(choice) for choice in dimension.choices])
    if dimension.kind == "int":
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


@styled
def importances(found: Importance, title: str) -> Figure:
    """Draw each field's share as a bar, blue where it is more than chance, with a tick where chance ends."""
    step, left = 0.3, 1.75
    height = 0.45 + step * len(found.shares) + 0.55
    figure = sheet(WIDE, height, title)
    axes = place(figure, left, 0.4, WIDE - left - 0.6, step * len(found.shares))
    for row, (key, share) in enumerate(found.shares.items()):
        beyond = share > found.chance[key]
        axes.barh(row, share, height=0.56, color=LIGHT["val" if beyond else "train"], alpha=1 if beyond else 0.55)
        axes.plot([found.chance[key]] * 2, [row - 0.38, row + 0.38], color=INK, linewidth=1.2)
        axes.annotate(
            f"{100 * share:.0f} %", (1, row), (8, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            va="center", fontsize=7.5, color=INK if beyond else MUTED, weight="bold" if beyond else "normal",
        )  # fmt: skip
    axes.set_yticks(range(len(found.shares)), list(found.shares), color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(found.shares) - 0.5, -0.5)
    axes.set_xlim(0, max(*found.shares.values(), *found.chance.values()) * 1.04)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlabel("share of the spread of ranks that the field explains alone")
    axes.spines["left"].set_visible(False)
    figure.text(
        0.1 / WIDE, 1 - 0.14 / height, f"blue: more than chance   ·   tick: the most that {SHUFFLES} shuffles of the scores gave",
        fontsize=7, color=MUTED, va="center",
    )  # fmt: skip
    return figure
