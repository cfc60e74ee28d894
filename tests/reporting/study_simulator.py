"""Simulated tuning studies at any stage, in milliseconds: scores follow a formula, promotions are real."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from nephros.evaluation.intervals import AccuracyInterval
from nephros.evaluation.metrics import Metrics
from nephros.recipe import Recipe
from nephros.tuning.settings import StudySettings
from nephros.tuning.space import Dimension, parse_space
from nephros.tuning.study_state import Config, StudyState

SPACE: dict[str, Any] = {
    "optimizer.name": {"choices": ["sgd", "adamw"]},
    "optimizer.lr": {"low": 0.001, "high": 0.3, "log": True},
    "optimizer.momentum": {"low": 0.5, "high": 0.99, "when": {"optimizer.name": ["sgd"]}},
    "batch_size": {"choices": [64, 128, 256]},
    "model.hidden": {"choices": [[100, 50], [300, 150]]},
    "schedule.patience": {"low": 3, "high": 6},
    "model.dropout": {"low": 0.0, "high": 0.7},
}
BEST_METRICS = Metrics(
    n=23640,
    accuracy=0.6123,
    accuracy_interval=AccuracyInterval(low=0.6061, high=0.6185),
    loss=1.0432,
    auc=0.8971,
    macro_precision=0.5034,
    macro_recall=0.4987,
    macro_f1=0.5012,
    macro_classes=(),
    expected_calibration_error=0.02,
    n_calibration_bins=15,
    per_class=(),
    confusion_matrix=(),
)


@dataclass(frozen=True)
class SimulationConfig:
    """The study to simulate."""

    max_epochs: int = 27
    eta: int = 3
    brackets: str = "all"
    metric: Any = "val_accuracy"
    sampler: Any = "random"
    space: dict[str, Any] = field(default_factory=lambda: SPACE)
    split: str = "own"
    fail_rate: float = 0.0
    """Share of the configurations that fail in some epoch."""
    early_stop_rate: float = 0.0
    """Share of the configurations that stop early."""
    seed: int = 0


def make_settings(plan: SimulationConfig, name: str = "poster-search") -> StudySettings:
    """Return the settings of a simulated study."""
    recipe = replace(Recipe(name="poster"), epochs=plan.max_epochs, metric=plan.metric)
    title = "Generated cells, synthetic" if plan.split == "synthetic" else f"TissueMNIST, {plan.split} split"
    return StudySettings(
        name=name,
        recipe=recipe.to_dict(),
        space=plan.space,
        max_epochs=plan.max_epochs,
        eta=plan.eta,
        brackets=plan.brackets,
        metric=plan.metric,
        sampler=plan.sampler,
        seed=7,
        threads_per_trial=1,
        device_type="cpu",
        data_request={"source": "tissuemnist", "size": None, "seed": 0},
        subset=20000,
        data={
            "name": "TissueMNIST",
            "split": plan.split,
            "path": "/data/tissuemnist.npz",
            "sha256": "ab" * 32,
            "key": None if plan.split == "synthetic" else "tissuemnist",
            "detail": "a quarter held out",
            "title": title,
        },
        versions={"nephros": "0.2.0", "torch": "2.13.0"},
        commit=None,
        created="2026-01-01T00:00:00+00:00",
        command=f"nephros tune poster --max-epochs {plan.max_epochs} --name {name}",
    )


def simulate(plan: SimulationConfig, epochs: int | None = None, name: str = "poster-search") -> StudyState:
    """Return the study after `epochs` over all configurations, or finished and evaluated."""
    study_settings = make_settings(plan, name)
    space = parse_space(study_settings.space, study_settings.base_recipe, "The space")
    configs: dict[tuple[int, int], Config] = {}
    study_state = StudyState(study_settings, configs)
    for epochs_spent, _ in enumerate(_train_epochs(study_state, configs, space, plan)):
        if epochs is not None and epochs_spent >= epochs:
            return StudyState(study_settings, dict(configs))
    final_configs = {key: replace(config, state=_state(study_state, config)) for key, config in configs.items()}
    return StudyState(study_settings, final_configs, BEST_METRICS if study_state.best else None)


def _train_epochs(
    study_state: StudyState,
    configs: dict[tuple[int, int], Config],
    space: tuple[Dimension, ...],
    plan: SimulationConfig,
) -> Iterator[None]:
    """Train epoch by epoch, yielding before each."""
    for bracket in study_state.settings.planned_brackets:
        for index in range(bracket.n_configs):
            params = _sample_params(space, random.Random(f"{plan.seed} {bracket.s} {index}"))
            configs[bracket.s, index] = Config(bracket.s, index, len(configs), params)
        while (rung_state := study_state.rung_states(bracket)[-1]).promoted is None:
            for index in rung_state.pending:
                for epoch in range(configs[bracket.s, index].trained_epochs + 1, rung_state.rung.epochs + 1):
                    config = configs[bracket.s, index]
                    if config.state == "failed" or config.early_stopped:
                        break
                    yield
                    configs[bracket.s, index] = _step(config, epoch, plan)


def _sample_params(space: tuple[Dimension, ...], rng: random.Random) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for dimension in space:
        if dimension.kind == "categorical":
            value: Any = rng.choice(dimension.choices)
        elif dimension.kind == "int":
            value = rng.randint(int(dimension.low), int(dimension.high))
        else:
            share = rng.random()
            value = dimension.low + share * (dimension.high - dimension.low)
            if dimension.log:
                value = dimension.low * (dimension.high / dimension.low) ** share
        if dimension.is_active(params):
            params[dimension.key] = value
    return params


def _step(config: Config, epoch: int, plan: SimulationConfig) -> Config:
    """Return the configuration after one more epoch: trained, failed or stopped early."""
    rng = random.Random(f"fate {plan.seed} {config.key}")
    fails, stops = rng.random() < plan.fail_rate, rng.random() < plan.early_stop_rate
    when = 1 + rng.randrange(6)
    if fails and epoch == when:
        return replace(
            config, state="failed", error=rng.choice(["The loss became NaN.", "The device is out of memory."])
        )
    values = {**config.values, epoch: _score(config, epoch, plan)}
    return replace(config, values=values, early_stopped=stops and epoch == when + 2, seconds=config.seconds + 11.5)


def _score(config: Config, epoch: int, plan: SimulationConfig) -> float:
    noise = random.Random(f"noise {plan.seed} {config.key} {epoch}").gauss(0, 0.012)
    miss = abs(math.log(config.params.get("optimizer.lr", 0.03) / 0.03)) / math.log(30)
    quality = 0.6 - 0.25 * miss - 0.12 * abs(config.params.get("model.dropout", 0.3) - 0.3)
    accuracy = max(0.05, 0.25 + (quality - 0.25) * (1 - math.exp(-epoch / (2 + 8 * miss))) + noise)
    if plan.metric == "val_loss":
        return 40.0 if miss > 0.95 else -math.log(accuracy)
    return float(min(accuracy, 1.0))


def _state(study_state: StudyState, config: Config) -> Any:
    if config.state == "failed":
        return "failed"
    bracket = next(bracket for bracket in study_state.settings.planned_brackets if bracket.s == config.bracket)
    last = study_state.rung_states(bracket)[-1]
    return "complete" if last.rung == bracket.rungs[-1] and config.index in last.members else "pruned"
