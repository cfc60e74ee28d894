"""A study's state: scores, rungs, the best configuration and the end follow from the configurations."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from nephros.errors import InvalidArgument, NephrosError
from nephros.recipe import OptimizerConfig, Recipe
from nephros.tuning.hyperband import PENDING
from nephros.tuning.settings import StudySettings
from nephros.tuning.study_state import BestConfig, Config, ConfigKey, StudyState, TrialStateName


def make_settings(**changes: Any) -> StudySettings:
    """Return settings of a study with R = 9 and eta 3: brackets of 9-3-1, 5-1 and 3 configurations."""
    recipe = dict(Recipe(epochs=9, optimizer=OptimizerConfig(lr=0.3)).to_dict(), **changes.pop("recipe", {}))
    values: dict[str, Any] = {
        "name": "mine",
        "recipe": recipe,
        "space": {"optimizer.momentum": {"low": 0.0, "high": 0.9}},
        "max_epochs": 9,
        "eta": 3,
        "brackets": "all",
        "metric": "val_accuracy",
        "sampler": "random",
        "seed": 0,
        "threads_per_trial": 1,
        "device_type": "cpu",
        "data_request": {"source": "synthetic", "size": 28, "seed": 0},
        "subset": None,
        "data": {},
        "versions": {},
        "commit": None,
        "created": "2024-01-01T00:00:00Z",
        "command": "nephros tune",
    }
    return StudySettings(**(values | changes))


def make_config(
    key: ConfigKey,
    values: list[float] | float,
    epochs: int = 0,
    state: TrialStateName = "running",
    early_stopped: bool = False,
) -> Config:
    """Return a configuration with one value per epoch, or with the same value for each of `epochs` epochs."""
    values_per_epoch = values if isinstance(values, list) else [values] * epochs
    return Config(
        *key,
        number=key[1],
        params={},
        values=dict(enumerate(values_per_epoch, start=1)),
        state=state,
        early_stopped=early_stopped,
    )


def make_state(*configs: Config, **changes: Any) -> StudyState:
    return StudyState(make_settings(**changes), {config.key: config for config in configs})


LAST, BEST = {"checkpoint": "last"}, {"checkpoint": "best"}


@pytest.mark.parametrize(
    ("recipe", "metric", "values", "scores"),
    [
        (LAST, "val_accuracy", [0.5, 0.7, 0.6], [0.5, 0.7, 0.6]),
        (BEST, "val_accuracy", [0.5, 0.7, 0.6], [0.5, 0.7, 0.7]),
        (LAST, "val_loss", [1.5, 1.2, 1.3], [-1.5, -1.2, -1.3]),
        (BEST, "val_loss", [1.5, 1.2, 1.3], [-1.5, -1.2, -1.2]),
        (BEST, "val_loss", [math.nan, 1.2, math.nan], [math.nan, -1.2, -1.2]),
        (LAST, "val_auc", [0.5, math.nan, 0.6], [0.5, math.nan, 0.6]),
    ],
)
def test_a_score_is_the_metric_of_the_weights_that_the_recipe_keeps(
    recipe: dict[str, Any], metric: str, values: list[float], scores: list[float]
) -> None:
    config = make_config((1, 0), values)
    study_state = make_state(config, recipe=recipe, metric=metric)
    assert [study_state.score(config, epochs) for epochs in (1, 2, 3)] == pytest.approx(scores, nan_ok=True)
    assert study_state.score(config, 4) is PENDING


def test_a_score_does_not_see_later_epochs() -> None:
    config = make_config((2, 0), [0.1, 0.2, 0.3, 0.9])
    assert make_state(config, recipe=BEST).score(config, 3) == 0.3


@pytest.mark.parametrize("state", ["running", "pruned", "complete", "failed"])
def test_a_failed_configuration_keeps_its_earlier_scores(state: TrialStateName) -> None:
    config = make_config((2, 0), [0.1, 0.2, 0.3], state=state)
    study_state = make_state(config)
    assert study_state.score(config, 1) == 0.1
    assert study_state.score(config, 3) == 0.3
    assert study_state.score(config, 9) is (None if state == "failed" else PENDING)
    never = make_config((2, 1), [], state=state)
    assert study_state.score(never, 1) is (None if state == "failed" else PENDING)


@pytest.mark.parametrize(("recipe", "score"), [(LAST, 0.4), (BEST, 0.6)])
def test_an_early_stopped_configuration_keeps_its_score(recipe: dict[str, Any], score: float) -> None:
    config = make_config((0, 0), [0.6, 0.4], early_stopped=True)
    assert make_state(config, recipe=recipe).score(config, 9) == score


def test_an_unknown_configuration_keeps_its_rung_open() -> None:
    study_state = make_state(*[make_config((1, index), 0.5, 3) for index in range(4)])
    bracket = study_state.settings.planned_brackets[1]
    (open_rung,) = study_state.rung_states(bracket)
    assert open_rung.pending == (4,)
    assert open_rung.promoted is None
    assert not study_state.bracket_finished(bracket)
    assert study_state.best is None


def first_rung_configs(*values: float) -> list[Config]:
    return [make_config((2, index), value, 1) for index, value in enumerate(values)]


def test_the_best_of_equal_scores_is_the_earliest() -> None:
    first = first_rung_configs(*[0.1] * 4, 0.5, *[0.1] * 2, 0.5, 0.5)
    assert make_state(*first).best == BestConfig((2, 4), 1, 0.5)
    # An equal score at a later rung of the same configuration, and one in a later bracket, change nothing.
    grown = [make_config(config.key, 0.5, 3) if config.values[1] == 0.5 else config for config in first]
    later = [make_config((0, index), 0.5, 9) for index in range(3)]
    assert make_state(*grown, *later).best == BestConfig((2, 4), 1, 0.5)
    # A better score in a later bracket does.
    assert make_state(*grown, *later[:2], make_config((0, 2), 0.6, 9)).best == BestConfig((0, 2), 9, 0.6)


def test_the_best_may_be_of_an_earlier_rung() -> None:
    others = first_rung_configs(*[0.1] * 6)
    three = [make_config((2, index), [0.5, 0.5, 0.8 if index == 7 else 0.4]) for index in (6, 7, 8)]
    seven = make_config((2, 7), [0.5, 0.5, 0.8, *[0.3] * 6])
    study_state = make_state(*others, three[0], seven, three[2])
    assert study_state.best == BestConfig((2, 7), 3, 0.8)
    assert [
        rung_state.promoted for rung_state in study_state.rung_states(study_state.settings.planned_brackets[0])
    ] == [
        (6, 7, 8),
        (7,),
        (),
    ]
    # Scores of an open rung don't count: which of them are known depends on timing.
    assert make_state(*first_rung_configs(*[0.1] * 8)).best is None


def test_the_best_loss_is_the_lowest() -> None:
    values = [2.0, 1.5, math.nan, 1.1, math.inf, 1.7, 1.9, 1.8, 1.6]
    assert make_state(*first_rung_configs(*values), metric="val_loss").best == BestConfig((2, 3), 1, 1.1)


def test_the_best_that_stopped_early_names_its_epochs() -> None:
    three = [
        make_config((0, 0), [0.4, 0.9], early_stopped=True),
        make_config((0, 1), 0.5, 9),
        make_config((0, 2), 0.5, 9),
    ]
    assert make_state(*three, brackets="s=0").best == BestConfig((0, 0), 2, 0.9)


def test_an_early_stopped_configuration_passes_rungs_without_training() -> None:
    nine = [make_config((2, 0), [0.9], early_stopped=True), *first_rung_configs(*[0.1] * 9)[1:]]
    study_state = make_state(*nine, make_config((2, 1), 0.1, 3), make_config((2, 2), 0.1, 3), brackets="s=2")
    assert [
        rung_state.promoted for rung_state in study_state.rung_states(study_state.settings.planned_brackets[0])
    ] == [
        (0, 1, 2),
        (0,),
        (),
    ]
    assert study_state.finished
    assert study_state.best == BestConfig((2, 0), 1, 0.9)
    assert study_state.trained_epochs == 1 + 3 + 3 + 6


@pytest.mark.parametrize(("values", "state"), [([math.nan], "running"), ([math.inf], "running"), ([], "failed")])
def test_a_bracket_of_failures_is_closed_and_has_no_best(values: list[float], state: TrialStateName) -> None:
    nine = [make_config((2, index), values, state=state) for index in range(9)]
    study_state = make_state(*nine, metric="val_loss")
    first, second, _ = study_state.settings.planned_brackets
    assert study_state.bracket_finished(first)
    assert len(study_state.rung_states(first)) == 1
    assert not study_state.bracket_finished(second)
    assert not study_state.finished
    assert study_state.best is None
    assert make_state(*nine, metric="val_loss", brackets="s=2").finished


def test_failures_after_a_promotion_close_the_bracket_and_keep_the_best() -> None:
    nine = first_rung_configs(*[0.1 * index for index in range(9)])
    nine[6:] = [dataclasses.replace(config, state="failed") for config in nine[6:]]
    study_state = make_state(*nine, brackets="s=2")
    assert [
        rung_state.promoted for rung_state in study_state.rung_states(study_state.settings.planned_brackets[0])
    ] == [
        (8, 7, 6),
        (),
    ]
    assert study_state.finished
    assert study_state.best == BestConfig((2, 8), 1, 0.8)


def test_a_study_is_finished_when_every_bracket_is() -> None:
    nine = [
        make_config((2, index), 0.9 - 0.1 * index, 9 if index == 0 else 3 if index < 3 else 1) for index in range(9)
    ]
    five = [make_config((1, index), 0.5, 9 if index == 0 else 3) for index in range(5)]
    three = [make_config((0, index), 0.5, 9) for index in range(3)]
    study_state = make_state(*nine, *five, *three)
    assert study_state.finished
    assert study_state.trained_epochs == study_state.planned_epochs == 21 + 21 + 27
    for incomplete in (nine[0], five[0], three[2]):
        shorter = make_config(incomplete.key, incomplete.values[1], 8)
        assert not make_state(*{config.key: config for config in [*nine, *five, *three, shorter]}.values()).finished


def test_a_configurations_values_replace_the_recipes() -> None:
    drawn = dataclasses.replace(make_config((2, 0), []), params={"optimizer.momentum": 0.25, "batch_size": 64})
    study_state = make_state(drawn)
    expected = Recipe(epochs=9, batch_size=64, optimizer=OptimizerConfig(lr=0.3, momentum=0.25))
    assert study_state.recipe((2, 0)) == expected
    clash = dataclasses.replace(drawn, params={"optimizer.nesterov": True})
    with pytest.raises(NephrosError, match=r"optimizer\.nesterov.* is True"):
        make_state(clash).recipe((2, 0))


def test_settings_survive_json() -> None:
    settings = make_settings(brackets="s=1", metric="val_loss")
    assert StudySettings(**json.loads(json.dumps(settings.to_dict()))) == settings
    assert [bracket.s for bracket in settings.planned_brackets] == [1]
    assert settings.base_recipe == Recipe(epochs=9, optimizer=OptimizerConfig(lr=0.3))
    assert settings.lower_is_better
    assert not make_settings().lower_is_better


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"metric": "accuracy"}, "val_accuracy, val_loss"),
        ({"sampler": "grid"}, "random, tpe"),
        ({"threads_per_trial": 0}, "at least 1"),
        ({"subset": 0}, "at least 1"),
        ({"seed": -1}, "from 0"),
        ({"seed": 2**31}, "from 0"),
        ({"max_epochs": 0}, "at least 1"),
        ({"eta": 1}, "at least 2"),
        ({"brackets": "s=3"}, "s=2, s=1, s=0"),
    ],
)
def test_invalid_settings_name_their_parameter(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidArgument, match=expected) as excinfo:
        make_settings(**changes)
    assert {excinfo.value.parameter: excinfo.value.value} == changes
