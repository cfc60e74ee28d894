"""Default spaces: each recipe has one, all its corners are valid recipes, and the poster's matches the poster."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nephros.errors import UnknownName
from nephros.models import MODELS, build_network, default_input_spec
from nephros.presets import NETWORK_RECIPES
from nephros.recipe import LRScheduleConfig, ModelConfig, OptimizerConfig, Recipe
from nephros.tuning.defaults import _DEFAULT_SPACES, default_space
from nephros.tuning.space import Dimension, apply_params, parse_space, space_to_dict

DEVICES = ["cpu", "cuda"]


@functools.cache
def _space(name: str, device: str) -> tuple[Dimension, ...]:
    return default_space(NETWORK_RECIPES[name], device)


def by_key(recipe: str | Recipe, device: str = "cpu") -> dict[str, Dimension]:
    base = NETWORK_RECIPES[recipe] if isinstance(recipe, str) else recipe
    return {dimension.key: dimension for dimension in default_space(base, device)}


def contains(dimension: Dimension, value: Any) -> bool:
    return value in dimension.choices if dimension.choices else dimension.low <= value <= dimension.high


def recipe_value(recipe: Recipe, key: str) -> Any:
    group, _, name = key.partition(".")
    value = recipe.to_dict()[group]
    return value[name] if name else value


@pytest.mark.sampled(5)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NETWORK_RECIPES)
def test_every_recipe_has_a_space_whose_corners_are_recipes(name: str, device: str) -> None:
    base, space = NETWORK_RECIPES[name], _space(name, device)
    assert len(space) >= 5
    assert "optimizer.lr" in {dimension.key for dimension in space}
    assert parse_space(space_to_dict(space), base, "again") == space
    lows = {dimension.key: dimension.extremes[0] for dimension in space}
    highs = {dimension.key: dimension.extremes[-1] for dimension in space}
    corners = [lows, highs]
    for dimension in space:
        for value in dimension.extremes:
            corners += [corner | {dimension.key: value} for corner in (lows, highs) if corner[dimension.key] != value]
    for corner in corners:
        recipe = apply_params(base, corner)
        assert {key: recipe_value(recipe, key) for key in corner} == corner
        assert recipe.optimizer.nesterov == (base.optimizer.nesterov and recipe.optimizer.momentum > 0)
    # The space contains the recipe's own values, except a few such as NephNet2D's 32 channels on a CPU.
    outside = {dimension.key for dimension in space if not contains(dimension, recipe_value(base, dimension.key))}
    assert outside <= {"model.base_channels", "optimizer.weight_decay"}


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(sorted(NETWORK_RECIPES)))
def test_every_sample_is_a_recipe(device: str, data: st.DataObject, name: str) -> None:
    params: dict[str, Any] = {}
    for dimension in _space(name, device):
        if dimension.is_active(params):
            low, high = dimension.low, dimension.high
            strategy: st.SearchStrategy[Any] = st.sampled_from(dimension.choices or (0,))
            if dimension.kind == "int":
                strategy = st.integers(int(low), int(high))
            elif dimension.kind == "float":
                strategy = st.floats(low, high)
            params[dimension.key] = data.draw(strategy, label=dimension.key)
    recipe = apply_params(NETWORK_RECIPES[name], params)
    assert {key: recipe_value(recipe, key) for key in params} == params


@pytest.mark.parametrize("name", ["course-1", "nephros", "poster", "nephnet2d", "nephnet3d"])
def test_the_smallest_and_the_largest_network_can_be_built(name: str) -> None:
    space = default_space(NETWORK_RECIPES[name], "cpu")
    for end in (0, -1):
        model = apply_params(NETWORK_RECIPES[name], {d.key: d.extremes[end] for d in space}).model
        build_network(model, default_input_spec(model))


def test_the_posters_space_matches_the_poster() -> None:
    space = by_key("poster")
    assert set(space) == {
        *("batch_size", "model.base_channels", "schedule.patience"),
        *("optimizer.lr", "optimizer.weight_decay", "optimizer.momentum", "model.dropout", "schedule.factor"),
    }
    assert space["batch_size"].choices[:2] == (128, 256)
    assert space["model.base_channels"].choices == (8, 16)
    assert by_key("poster", "cuda")["model.base_channels"].choices[:3] == (8, 16, 32)
    patience = space["schedule.patience"]
    assert (patience.kind, patience.low, patience.high) == ("int", 3, 6)
    assert {key for key, dimension in space.items() if dimension.log} == {"optimizer.lr", "optimizer.weight_decay"}
    published = {
        "batch_size": 128,
        "model.base_channels": 8,
        "schedule.patience": 5,
        "optimizer.lr": 0.025,
        "optimizer.weight_decay": 0.004,
        "optimizer.momentum": 0.8,
        "model.dropout": 0.5,
        "schedule.factor": 0.29,
    }
    assert all(contains(space[key], value) for key, value in published.items())
    assert by_key("poster-printed") == space
    assert apply_params(NETWORK_RECIPES["poster-printed"], published) == NETWORK_RECIPES["poster-printed"]


def test_channels_stay_few_on_a_cpu() -> None:
    assert max(by_key("poster", "cpu")["model.base_channels"].choices) == 16
    for name in NETWORK_RECIPES:
        cpu, cuda = ({dimension.key: dimension for dimension in _space(name, device)} for device in DEVICES)
        assert set(cpu) == set(cuda)
        if "model.base_channels" in cpu:
            assert max(cpu["model.base_channels"].choices) < max(cuda["model.base_channels"].choices)


def test_fields_that_the_recipe_does_not_use_are_not_searched() -> None:
    base = NETWORK_RECIPES["poster"]
    adam = dataclasses.replace(base, optimizer=OptimizerConfig("adam", lr=0.01), schedule=LRScheduleConfig("cosine"))
    assert not {"optimizer.momentum", "schedule.patience", "schedule.factor"} & set(by_key(adam))
    assert "schedule.warmup" in by_key("compact")
    constant = dataclasses.replace(NETWORK_RECIPES["compact"], schedule=LRScheduleConfig())
    assert "schedule.warmup" not in by_key(constant)


def test_another_optimizers_learning_rate_gets_a_range_around_it() -> None:
    adam = dataclasses.replace(NETWORK_RECIPES["compact"], optimizer=OptimizerConfig("adam", lr=1e-3))
    lr = by_key(adam)["optimizer.lr"]
    assert (lr.low, lr.high) == pytest.approx((1e-4, 1e-2))
    assert lr.log
    assert (by_key("compact")["optimizer.lr"].low, by_key("compact")["optimizer.lr"].high) == (0.02, 1.0)


def test_a_network_without_a_space_gets_the_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(_DEFAULT_SPACES) <= set(MODELS)
    monkeypatch.setitem(MODELS, "brandnew", MODELS["course"])
    space = by_key(Recipe(name="mine", model=ModelConfig("brandnew")))
    assert set(space) == {"optimizer.lr", "batch_size"}
    with pytest.raises(UnknownName, match="Did you mean 'poster'") as excinfo:
        by_key(Recipe(name="mine", model=ModelConfig("postre")))
    assert (excinfo.value.parameter, excinfo.value.value) == ("model.network", "postre")
