"""What follows from a study's configurations: their scores, the rungs, the best and the end."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from nephros.errors import UserError
from nephros.recipe import Recipe
from nephros.recipe_parts import Optimizer
from nephros.tuning.hyperband import PENDING
from nephros.tuning.settings import Settings
from nephros.tuning.study_state import Best, Config, Key, Records, State


def settings(**changes: Any) -> Settings:
    """Return settings of a study of R = 9 at eta 3: brackets 9-3-1, 5-1 and 3 configurations."""
    recipe = dict(Recipe(epochs=9, optimizer=Optimizer(lr=0.3)).to_dict(), **changes.pop("recipe", {}))
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
        "request": {"source": "synthetic", "size": 28, "seed": 0},
        "subset": None,
        "data": {},
        "versions": {},
        "commit": None,
        "created": "2024-01-01T00:00:00Z",
        "command": "nephros tune",
    }
    return Settings(**(values | changes))


def config(
    key: Key, values: list[float] | float, epochs: int = 0, state: State = "running", ended: bool = False
) -> Config:
    """Return a configuration with one value for each epoch, or with the same value for each of so many epochs."""
    each = values if isinstance(values, list) else [values] * epochs
    return Config(*key, number=key[1], params={}, values=dict(enumerate(each, start=1)), state=state, ended=ended)


def records(*configs: Config, **changes: Any) -> Records:
    return Records(settings(**changes), {each.key: each for each in configs})


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
    mine = config((1, 0), values)
    known = records(mine, recipe=recipe, metric=metric)
    assert [known.score(mine, epochs) for epochs in (1, 2, 3)] == pytest.approx(scores, nan_ok=True)
    assert known.score(mine, 4) is PENDING


def test_a_score_does_not_see_later_epochs() -> None:
    mine = config((2, 0), [0.1, 0.2, 0.3, 0.9])
    assert records(mine, recipe=BEST).score(mine, 3) == 0.3


@pytest.mark.parametrize("state", ["running", "pruned", "complete", "failed"])
def test_one_that_failed_keeps_the_scores_that_it_had_before(state: State) -> None:
    mine = config((2, 0), [0.1, 0.2, 0.3], state=state)
    known = records(mine)
    assert known.score(mine, 1) == 0.1
    assert known.score(mine, 3) == 0.3
    assert known.score(mine, 9) is (None if state == "failed" else PENDING)
    never = config((2, 1), [], state=state)
    assert known.score(never, 1) is (None if state == "failed" else PENDING)


@pytest.mark.parametrize(("recipe", "score"), [(LAST, 0.4), (BEST, 0.6)])
def test_one_that_ended_early_keeps_its_score_to_the_end(recipe: dict[str, Any], score: float) -> None:
    mine = config((0, 0), [0.6, 0.4], ended=True)
    assert records(mine, recipe=recipe).score(mine, 9) == score


def test_an_unknown_configuration_keeps_its_rung_open() -> None:
    known = records(*[config((1, index), 0.5, 3) for index in range(4)])
    one = known.settings.plan[1]
    (open_rung,) = known.standings(one)
    assert open_rung.pending == (4,)
    assert open_rung.promoted is None
    assert not known.closed(one)
    assert known.best is None


def rung_of_nine(*values: float) -> list[Config]:
    return [config((2, index), value, 1) for index, value in enumerate(values)]


def test_the_best_of_equal_ones_is_the_earliest() -> None:
    first = rung_of_nine(*[0.1] * 4, 0.5, *[0.1] * 2, 0.5, 0.5)
    assert records(*first).best == Best((2, 4), 1, 0.5)
    # An equal score at a later rung of the same configuration, and one in a later bracket, change nothing.
    grown = [config(each.key, 0.5, 3) if each.values[1] == 0.5 else each for each in first]
    later = [config((0, index), 0.5, 9) for index in range(3)]
    assert records(*grown, *later).best == Best((2, 4), 1, 0.5)
    # A better score in a later bracket does.
    assert records(*grown, *later[:2], config((0, 2), 0.6, 9)).best == Best((0, 2), 9, 0.6)


def test_the_best_may_be_of_an_earlier_rung_than_the_last() -> None:
    others = rung_of_nine(*[0.1] * 6)
    three = [config((2, index), [0.5, 0.5, 0.8 if index == 7 else 0.4]) for index in (6, 7, 8)]
    seven = config((2, 7), [0.5, 0.5, 0.8, *[0.3] * 6])
    known = records(*others, three[0], seven, three[2])
    assert known.best == Best((2, 7), 3, 0.8)
    assert [standing.promoted for standing in known.standings(known.settings.plan[0])] == [(6, 7, 8), (7,), ()]
    # What an open rung holds does not count: whether it is known yet depends on who was quicker.
    assert records(*rung_of_nine(*[0.1] * 8)).best is None


def test_the_best_loss_is_the_lowest() -> None:
    values = [2.0, 1.5, math.nan, 1.1, math.inf, 1.7, 1.9, 1.8, 1.6]
    assert records(*rung_of_nine(*values), metric="val_loss").best == Best((2, 3), 1, 1.1)


def test_the_best_that_ended_early_names_the_epochs_that_it_had() -> None:
    three = [config((0, 0), [0.4, 0.9], ended=True), config((0, 1), 0.5, 9), config((0, 2), 0.5, 9)]
    assert records(*three, brackets="s=0").best == Best((0, 0), 2, 0.9)


def test_an_early_stop_goes_through_the_rungs_without_training() -> None:
    nine = [config((2, 0), [0.9], ended=True), *rung_of_nine(*[0.1] * 9)[1:]]
    known = records(*nine, config((2, 1), 0.1, 3), config((2, 2), 0.1, 3), brackets="s=2")
    assert [standing.promoted for standing in known.standings(known.settings.plan[0])] == [(0, 1, 2), (0,), ()]
    assert known.over
    assert known.best == Best((2, 0), 1, 0.9)
    assert known.epochs == 1 + 3 + 3 + 6


@pytest.mark.parametrize(("values", "state"), [([math.nan], "running"), ([math.inf], "running"), ([], "failed")])
def test_a_bracket_in_which_all_failed_is_closed_and_has_no_best(values: list[float], state: State) -> None:
    nine = [config((2, index), values, state=state) for index in range(9)]
    known = records(*nine, metric="val_loss")
    first, second, _ = known.settings.plan
    assert known.closed(first)
    assert len(known.standings(first)) == 1
    assert not known.closed(second)
    assert not known.over
    assert known.best is None
    assert records(*nine, metric="val_loss", brackets="s=2").over


def test_failures_after_a_promotion_close_the_bracket_and_leave_the_best() -> None:
    nine = rung_of_nine(*[0.1 * index for index in range(9)])
    nine[6:] = [dataclasses.replace(each, state="failed") for each in nine[6:]]
    known = records(*nine, brackets="s=2")
    assert [standing.promoted for standing in known.standings(known.settings.plan[0])] == [(8, 7, 6), ()]
    assert known.over
    assert known.best == Best((2, 8), 1, 0.8)


def test_over_when_every_bracket_is() -> None:
    nine = [config((2, index), 0.9 - 0.1 * index, 9 if index == 0 else 3 if index < 3 else 1) for index in range(9)]
    five = [config((1, index), 0.5, 9 if index == 0 else 3) for index in range(5)]
    three = [config((0, index), 0.5, 9) for index in range(3)]
    known = records(*nine, *five, *three)
    assert known.over
    assert known.epochs == known.planned_epochs == 21 + 21 + 27
    for lacking in (nine[0], five[0], three[2]):
        shorter = config(lacking.key, lacking.values[1], 8)
        assert not records(*{each.key: each for each in [*nine, *five, *three, shorter]}.values()).over


def test_a_configuration_s_recipe() -> None:
    drawn = dataclasses.replace(config((2, 0), []), params={"optimizer.momentum": 0.25, "batch_size": 64})
    known = records(drawn)
    expected = Recipe(epochs=9, batch_size=64, optimizer=Optimizer(lr=0.3, momentum=0.25))
    assert known.recipe((2, 0)) == expected
    clash = dataclasses.replace(drawn, params={"optimizer.nesterov": True})
    with pytest.raises(UserError, match=r"--optimizer\.nesterov is True"):
        records(clash).recipe((2, 0))


def test_settings_are_the_same_after_json() -> None:
    mine = settings(brackets="s=1", metric="val_loss")
    assert Settings(**json.loads(json.dumps(mine.to_dict()))) == mine
    assert [bracket.s for bracket in mine.plan] == [1]
    assert mine.base == Recipe(epochs=9, optimizer=Optimizer(lr=0.3))
    assert mine.lower_is_better
    assert not settings().lower_is_better


@pytest.mark.parametrize(
    ("changes", "words"),
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
def test_impossible_settings_name_their_flag(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=f"^{words}"):
        settings(**changes)
