"""Configurations from Optuna's samplers: those of a bracket, drawn together before it begins."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from nephros.training.parts import seed_for
from nephros.tuning.settings import Settings
from nephros.tuning.space import Dimension

Drawn = tuple[dict[str, Any], dict[str, BaseDistribution]]
"""Parameters as Optuna stores them, and their distributions."""


def direction(settings: Settings) -> Literal["minimize", "maximize"]:
    """Return which way the study's metric is better, in Optuna's words."""
    return "minimize" if settings.lower_is_better else "maximize"


def _stored(choice: Any) -> Any:
    """Return a choice as Optuna stores it: lists become JSON text."""
    return json.dumps(choice) if isinstance(choice, list | tuple) else choice


def plain(params: dict[str, Any], space: Iterable[Dimension]) -> dict[str, Any]:
    """Return stored parameters as values of recipe fields."""
    choices = {d.key: {_stored(choice): choice for choice in d.choices} for d in space if d.kind == "categorical"}
    return {key: choices[key][value] if key in choices else value for key, value in params.items()}


def draw(settings: Settings, space: tuple[Dimension, ...], s: int, n: int, earlier: list[FrozenTrial]) -> list[Drawn]:
    """Draw the `n` configurations of bracket `s`, the same ones whenever it is asked again.

    They depend on the study's seed and on `s`; with the sampler tpe on the `earlier` trials too, all of those of the
    brackets before, in their order.
    """
    seed = seed_for(settings.seed, "bracket", s) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=seed)
        if settings.sampler == "tpe":
            # As in BOHB, one model of all fields together; trials that are still out count as poor, so that a bracket's
            # configurations, drawn together, keep apart.
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
        scratch = optuna.create_study(sampler=sampler, direction=direction(settings))
        if settings.sampler == "tpe":
            scratch.add_trials(earlier)
        return [_ask(scratch, space) for _ in range(n)]


def _ask(scratch: optuna.Study, space: tuple[Dimension, ...]) -> Drawn:
    trial = scratch.ask()
    suggest(trial, space)
    return trial.params, trial.distributions


def suggest(trial: optuna.Trial, space: tuple[Dimension, ...]) -> dict[str, Any]:
    """Ask a trial's sampler for a configuration; return the values of recipe fields, of the dimensions that are active."""
    values: dict[str, Any] = {}
    for dimension in space:
        if dimension.active(values):
            values |= plain({dimension.key: _suggest(trial, dimension)}, [dimension])
    return values


def _suggest(trial: optuna.Trial, dimension: Dimension) -> Any:
    key, low, high = dimension.key, dimension.low, dimension.high
    if dimension.kind == "categorical":
        return trial.suggest_categorical(key, [_stored(choice) for choice in dimension.choices])
    if dimension.kind == "int":
        return trial.suggest_int(key, int(low), int(high), log=dimension.log)
    return trial.suggest_float(key, low, high, log=dimension.log)
