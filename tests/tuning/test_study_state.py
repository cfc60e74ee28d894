"""What follows from a study's configurations: their scores, the rungs, the best and the end."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from nephros.errors import NephrosError
from nephros.recipe import OptimizerConfig, Recipe
from nephros.tuning.hyperband import PENDING
from nephros.tuning.settings import StudySettings
from nephros.tuning.study_state import BestConfig, Config, ConfigKey, StudyState, TrialStateName


def make_settings(**changes: Any) -> StudySettings:
    """Return settings of a study of R = 9 at eta 3: brackets 9-3-1, 5-1 and 3 configurations."""
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
        "threads": 1,
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
    """Return a configuration with one value for each epoch, or with the same value for each of so many epochs."""
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
def test_a_score_is_that_of_the_weights_that_the_recipe_keeps(
    recipe: dict[str, Any], metric: str, values: list[float], scores: list[float]
) -> None:
    mine = make_config((1, 0), values)
    known = make_state(mine, recipe=recipe, metric=metric)
    assert [known.score(mine, epochs) for epochs in (1, 2, 3)] == pytest.approx(scores, nan_ok=True)
    assert known.score(mine, 4) is PENDING


def test_a_score_does_not_see_later_epochs() -> None:
    mine = make_config((2, 0), [0.1, 0.2, 0.3, 0.9])
    assert make_state(mine, recipe=BEST).score(mine, 3) == 0.3


@pytest.mark.parametrize("state", ["running", "pruned", "complete", "failed"])
def test_one_that_failed_keeps_the_scores_that_it_had_before(state: TrialStateName) -> None:
    mine = make_config((2, 0), [0.1, 0.2, 0.3], state=state)
    known = make_state(mine)
    assert known.score(mine, 1) == 0.1
    assert known.score(mine, 3) == 0.3
    assert known.score(mine, 9) is (None if state == "failed" else PENDING)
    never = make_config((2, 1), [], state=state)
    assert known.score(never, 1) is (None if state == "failed" else PENDING)


@pytest.mark.parametrize(("recipe", "score"), [(LAST, 0.4), (BEST, 0.6)])
def test_one_that_ended_early_keeps_its_score_to_the_end(recipe: dict[str, Any], score: float) -> None:
    mine = make_config((0, 0), [0.6, 0.4], early_stopped=True)
    assert make_state(mine, recipe=recipe).score(mine, 9) == score


def test_an_unknown_configuration_keeps_its_rung_open() -> None:
    known = make_state(*[make_config((1, index), 0.5, 3) for index in range(4)])
    bracket = known.settings.planned_brackets[1]
    (open_rung,) = known.rung_states(bracket)
    assert open_rung.pending == (4,)
    assert open_rung.promoted is None
    assert not known.bracket_finished(bracket)
    assert known.best is None


def first_rung_configs(*values: float) -> list[Config]:
    return [make_config((2, index), value, 1) for index, value in enumerate(values)]


def test_the_best_of_equal_ones_is_the_earliest() -> None:
    first = first_rung_configs(*[0.1] * 4, 0.5, *[0.1] * 2, 0.5, 0.5)
    assert make_state(*first).best == BestConfig((2, 4), 1, 0.5)
    # An equal score at a later rung of the same configuration, and one in a later bracket, change nothing.
    grown = [make_config(config.key, 0.5, 3) if config.values[1] == 0.5 else config for config in first]
    later = [make_config((0, index), 0.5, 9) for index in range(3)]
    assert make_state(*grown, *later).best == BestConfig((2, 4), 1, 0.5)
    # A better score in a later bracket does.
    assert make_state(*grown, *later[:2], make_config((0, 2), 0.6, 9)).best == BestConfig((0, 2), 9, 0.6)


def test_the_best_may_be_of_an_earlier_rung_than_the_last() -> None:
    others = first_rung_configs(*[0.1] * 6)
    three = [make_config((2, index), [0.5, 0.5, 0.8 if index == 7 else 0.4]) for index in (6, 7, 8)]
    seven = make_config((2, 7), [0.5, 0.5, 0.8, *[0.3] * 6])
    known = make_state(*others, three[0], seven, three[2])
    assert known.best == BestConfig((2, 7), 3, 0.8)
    assert [rung_state.promoted for rung_state in known.rung_states(known.settings.planned_brackets[0])] == [
        (6, 7, 8),
        (7,),
        (),
    ]
    # What an open rung holds does not count: whether it is known yet depends on who was quicker.
    assert make_state(*first_rung_configs(*[0.1] * 8)).best is None


def test_the_best_loss_is_the_lowest() -> None:
    values = [2.0, 1.5, math.nan, 1.1, math.inf, 1.7, 1.9, 1.8, 1.6]
    assert make_state(*first_rung_configs(*values), metric="val_loss").best == BestConfig((2, 3), 1, 1.1)


def test_the_best_that_ended_early_names_the_epochs_that_it_had() -> None:
    three = [
        make_config((0, 0), [0.4, 0.9], early_stopped=True),
        make_config((0, 1), 0.5, 9),
        make_config((0, 2), 0.5, 9),
    ]
    assert make_state(*three, brackets="s=0").best == BestConfig((0, 0), 2, 0.9)


def test_an_early_stop_goes_through_the_rungs_without_training() -> None:
    nine = [make_config((2, 0), [0.9], early_stopped=True), *first_rung_configs(*[0.1] * 9)[1:]]
    known = make_state(*nine, make_config((2, 1), 0.1, 3), make_config((2, 2), 0.1, 3), brackets="s=2")
    assert [rung_state.promoted for rung_state in known.rung_states(known.settings.planned_brackets[0])] == [
        (0, 1, 2),
        (0,),
        (),
    ]
    assert known.finished
    assert known.best == BestConfig((2, 0), 1, 0.9)
    assert known.trained_epochs == 1 + 3 + 3 + 6


@pytest.mark.parametrize(("values", "state"), [([math.nan], "running"), ([math.inf], "running"), ([], "failed")])
def test_a_bracket_in_which_all_failed_is_closed_and_has_no_best(values: list[float], state: TrialStateName) -> None:
    nine = [make_config((2, index), values, state=state) for index in range(9)]
    known = make_state(*nine, metric="val_loss")
    first, second, _ = known.settings.planned_brackets
    assert known.bracket_finished(first)
    assert len(known.rung_states(first)) == 1
    assert not known.bracket_finished(second)
    assert not known.finished
    assert known.best is None
    assert make_state(*nine, metric="val_loss", brackets="s=2").finished


def test_failures_after_a_promotion_close_the_bracket_and_leave_the_best() -> None:
    nine = first_rung_configs(*[0.1 * index for index in range(9)])
    nine[6:] = [dataclasses.replace(config, state="failed") for config in nine[6:]]
    known = make_state(*nine, brackets="s=2")
    assert [rung_state.promoted for rung_state in known.rung_states(known.settings.planned_brackets[0])] == [
        (8, 7, 6),
        (),
    ]
    assert known.finished
    assert known.best == BestConfig((2, 8), 1, 0.8)


def test_over_when_every_bracket_is() -> None:
    nine = [
        make_config((2, index), 0.9 - 0.1 * index, 9 if index == 0 else 3 if index < 3 else 1) for index in range(9)
    ]
    five = [make_config((1, index), 0.5, 9 if index == 0 else 3) for index in range(5)]
    three = [make_config((0, index), 0.5, 9) for index in range(3)]
    known = make_state(*nine, *five, *three)
    assert known.finished
    assert known.trained_epochs == known.planned_epochs == 21 + 21 + 27
    for incomplete in (nine[0], five[0], three[2]):
        shorter = make_config(incomplete.key, incomplete.values[1], 8)
        assert not make_state(*{config.key: config for config in [*nine, *five, *three, shorter]}.values()).finished


def test_a_configuration_s_recipe() -> None:
    drawn = dataclasses.replace(make_config((2, 0), []), params={"optimizer.momentum": 0.25, "batch_size": 64})
    known = make_state(drawn)
    expected = Recipe(epochs=9, batch_size=64, optimizer=OptimizerConfig(lr=0.3, momentum=0.25))
    assert known.recipe((2, 0)) == expected
    clash = dataclasses.replace(drawn, params={"optimizer.nesterov": True})
    with pytest.raises(NephrosError, match=r"--optimizer\.nesterov is True"):
        make_state(clash).recipe((2, 0))


def test_settings_are_the_same_after_json() -> None:
    mine = make_settings(brackets="s=1", metric="val_loss")
    assert StudySettings(**json.loads(json.dumps(mine.to_dict()))) == mine
    assert [bracket.s for bracket in mine.planned_brackets] == [1]
    assert mine.base_recipe == Recipe(epochs=9, optimizer=OptimizerConfig(lr=0.3))
    assert mine.lower_is_better
    assert not make_settings().lower_is_better


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "accuracy"}, "--metric is accuracy, but it must be one of val_accuracy, val_loss"),
        ({"sampler": "grid"}, "--sampler is grid, but it must be one of random, tpe"),
        ({"threads": 0}, "--threads is 0, but it must be"),
        ({"seed": -1}, "--seed is -1, but it must be"),
        ({"seed": 2**31}, "--seed is 2147483648, but it must be"),
        ({"max_epochs": 0}, "--max-epochs is 0, but it must be"),
        ({"eta": 1}, "--eta is 1, but it must be"),
        ({"brackets": "s=3"}, "--brackets is s=3, but with --max-epochs 9 and --eta 3 it must be all or one of s=2"),
    ],
)
def test_impossible_settings_name_their_flag(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NephrosError, match=f"^{message}"):
        make_settings(**changes)
