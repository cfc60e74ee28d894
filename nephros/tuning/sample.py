"""Configurations from Optuna's samplers: all of a bracket are sampled together before it starts."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from nephros.reading import MalformedContent
from nephros.training.seeding import derive_seed
from nephros.tuning.settings import StudySettings
from nephros.tuning.space import Dimension

SampledParams = tuple[dict[str, Any], dict[str, BaseDistribution]]
"""Parameters as Optuna stores them, and their distributions."""


def optuna_direction(settings: StudySettings) -> Literal["minimize", "maximize"]:
    """Return the direction of the study's metric, as Optuna names it."""
    return "minimize" if settings.lower_is_better else "maximize"


def _encode_choice(choice: Any) -> Any:
    """Return a choice as Optuna stores it: lists become JSON text."""
    return json.dumps(choice) if isinstance(choice, list | tuple) else choice


def decode_params(params: dict[str, Any], space: Iterable[Dimension]) -> dict[str, Any]:
    """Return stored parameters as values of recipe fields; MalformedContent for a value that is not a choice."""
    choices = {
        d.key: {_encode_choice(choice): choice for choice in d.choices} for d in space if d.kind == "categorical"
    }
    unknown = [key for key, value in params.items() if key in choices and value not in choices[key]]
    if unknown:
        raise MalformedContent(f"{unknown[0]} is none of its choices")
    return {key: choices[key][value] if key in choices else value for key, value in params.items()}


def sample_configs(
    settings: StudySettings,
    space: tuple[Dimension, ...],
    bracket: int,
    n_configs: int,
    previous_trials: list[FrozenTrial],
) -> list[SampledParams]:
    """Sample the `n_configs` configurations of bracket `bracket`; equal arguments give equal configurations.

    They depend on the study's seed and on `bracket`, and with the sampler tpe on `previous_trials` too: all trials of
    earlier brackets, in order.
    """
    seed = derive_seed(settings.seed, "bracket", bracket) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=seed)
        if settings.sampler == "tpe":
            # As in BOHB, one model of all fields together. Running trials count as poor, which keeps the configurations of a
            # bracket, sampled together, apart.
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
        sampling_study = optuna.create_study(sampler=sampler, direction=optuna_direction(settings))
        if settings.sampler == "tpe":
            sampling_study.add_trials(previous_trials)
        return [_sample_one(sampling_study, space) for _ in range(n_configs)]


def _sample_one(sampling_study: optuna.Study, space: tuple[Dimension, ...]) -> SampledParams:
    trial = sampling_study.ask()
    suggest_params(trial, space)
    return trial.params, trial.distributions


def suggest_params(trial: optuna.Trial, space: tuple[Dimension, ...]) -> dict[str, Any]:
    """Return a configuration that the trial's sampler suggests: recipe field -> value, of the active dimensions."""
    values: dict[str, Any] = {}
    for dimension in space:
        if dimension.is_active(values):
            values |= decode_params({dimension.key: _suggest_value(trial, dimension)}, [dimension])
    return values


def _suggest_value(trial: optuna.Trial, dimension: Dimension) -> Any:
    key, low, high = dimension.key, dimension.low, dimension.high
    if dimension.kind == "categorical":
        return trial.suggest_categorical(key, [_encode_choice(choice) for choice in dimension.choices])
    if dimension.kind == "int":
        return trial.suggest_int(key, int(low), int(high), log=dimension.log)
    return trial.suggest_float(key, low, high, log=dimension.log)
