"""Search spaces: every field can be searched, conditions, and a plain sentence for each thing that can't be."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from nephros import recipe_io
from nephros.errors import NephrosError
from nephros.presets import RECIPES
from nephros.recipe import AugmentConfig, LRScheduleConfig, OptimizerConfig, Recipe
from nephros.recipe_io import field_names
from nephros.tuning.space import NOT_SEARCHABLE, Dimension, apply_params, parse_space, read_space, space_to_dict

BASE = Recipe(optimizer=OptimizerConfig(momentum=0.9), schedule=LRScheduleConfig(milestones=(0.5,)))
"""A recipe that each value of each field goes together with."""

DIMENSIONS: dict[str, Any] = {
    "model.network": ["course", "poster", "nephnet2d", "resnet18", "resnet50", "compact", "equivariant"],
    "model.base_channels": {"low": 4, "high": 64, "log": True},
    "model.depth": [1, 2],
    "model.hidden": [[], [100, 50], [300, 150]],
    "model.dropout": {"low": 0.0, "high": 0.7},
    "optimizer.name": ["sgd", "adam", "adamw", "muon"],
    "optimizer.lr": {"low": 1e-4, "high": 1.0, "log": True},
    "optimizer.aux_lr": {"low": 0.01, "high": 1.0, "log": True},
    "optimizer.momentum": {"low": 0, "high": 0.99},
    "optimizer.nesterov": [True, False],
    "optimizer.weight_decay": {"low": "1e-6", "high": 0.1, "log": True},
    "optimizer.decay_norm_and_bias": [True, False],
    "schedule.name": ["constant", "step", "plateau", "cosine", "linear"],
    "schedule.milestones": [[0.5, 0.75], [0.3]],
    "schedule.step_epochs": {"low": 0, "high": 30},
    "schedule.factor": {"low": 0.1, "high": 1},
    "schedule.patience": {"low": 3, "high": 6},
    "schedule.warmup": {"low": 0.0, "high": 0.4},
    "augment.flips": ["none", "horizontal", "dihedral"],
    "augment.shift": {"low": 0, "high": 3},
    "augment.rotate": {"low": 0, "high": 180},
    "augment.translate": {"low": 0.0, "high": 0.1},
    "augment.scale": {"low": 0.0, "high": 0.1},
    "augment.interpolation": ["nearest", "bilinear"],
    "batch_size": [64, 128],
    "passes_per_epoch": {"low": 1, "high": 4},
    "last_batch": ["short", "balanced"],
    "normalize": ["symmetric", "zero_one", "dataset"],
    "label_smoothing": {"low": 0.0, "high": 0.2},
    "class_weights": ["none", "max-ratio", "balanced"],
    "ema_decay": {"low": 0.9, "high": 0.999},
    "early_stopping_patience": {"low": 0, "high": 5},
    "checkpoint": ["last", "best"],
    "amp": ["off", "auto", "native", "bf16", "fp16"],
    "channels_last": [True, False],
    "compile": [False, True],
    "seed": {"low": 0, "high": 2**63 - 1},
}


_PARSER = functools.cache(recipe_io.recipe_parser)


@pytest.fixture(autouse=True)
def _one_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build the parser of recipes once: that is what takes the time."""
    monkeypatch.setattr(recipe_io, "recipe_parser", _PARSER)


def recipe_value(recipe: Recipe, key: str) -> Any:
    group, _, name = key.partition(".")
    value = {"classical": {}, **recipe.to_dict()}[group]
    return value.get(name) if name else value


def parse_one(key: str, value: Any, base: Recipe = BASE) -> Dimension:
    (dimension,) = parse_space({key: value}, base, "space.yaml")
    return dimension


def test_the_table_above_lists_every_field_that_can_be_searched() -> None:
    assert set(DIMENSIONS) == {key for key in field_names() if key.partition(".")[0] not in NOT_SEARCHABLE}


@pytest.mark.parametrize("key", DIMENSIONS)
def test_every_field_can_be_searched(key: str, tmp_path: Path) -> None:
    """Through a YAML file, each extreme of it becomes the recipe's, and nothing else changes."""
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump({key: DIMENSIONS[key]}))
    (dimension,) = read_space(file, BASE)
    assert len(dimension.extremes) >= 2
    for value in dimension.extremes:
        recipe = apply_params(BASE, {key: value})
        assert recipe_value(recipe, key) == value
        assert type(recipe_value(recipe, key)) is type(value)
        assert {other for other in field_names() if recipe_value(recipe, other) != recipe_value(BASE, other)} <= {key}


@pytest.mark.parametrize("key", [key for key, value in DIMENSIONS.items() if isinstance(value, dict)])
def test_every_number_can_be_a_list_of_choices_too(key: str) -> None:
    assert parse_one(key, [DIMENSIONS[key]["low"], DIMENSIONS[key]["high"]]).kind == "categorical"


def test_kinds() -> None:
    assert parse_one("optimizer.lr", {"low": 1, "high": 3}) == Dimension("optimizer.lr", "float", 1.0, 3.0)
    assert isinstance(parse_one("optimizer.lr", {"low": 1, "high": 3}).low, float)
    assert parse_one("batch_size", {"low": 16, "high": 64, "log": True}) == Dimension(
        "batch_size", "int", 16, 64, log=True
    )
    assert isinstance(parse_one("batch_size", {"low": 16, "high": 64}).high, int)
    assert parse_one("batch_size", {"choices": [16]}) == Dimension("batch_size", "categorical", choices=(16,))
    assert parse_one("model.hidden", [[3], []]).choices == ([3], [])


def test_all_fields_at_once_read_back_the_same_after_json() -> None:
    values = DIMENSIONS | {"optimizer.momentum": {"low": 0.5, "high": 0.9, "when": {"optimizer.name": ["sgd"]}}}
    values = dict(sorted(values.items(), key=lambda item: item[0] != "optimizer.name"))
    space = parse_space(values, BASE, "space.yaml")
    assert [dimension.key for dimension in space] == list(values)
    assert parse_space(json.loads(json.dumps(space_to_dict(space))), BASE, "again") == space
    low = {dimension.key: dimension.extremes[0] for dimension in space}
    recipe = apply_params(BASE, low)
    assert {key: recipe_value(recipe, key) for key in low} == low


def test_numbers_that_yaml_reads_as_text() -> None:
    assert yaml.safe_load("1e-3") == "1e-3"
    assert parse_one("optimizer.lr", yaml.safe_load("{low: 1e-3, high: 3e-1, log: true}")) == Dimension(
        "optimizer.lr", "float", 0.001, 0.3, log=True
    )
    assert parse_one("optimizer.lr", ["1e-3", 0.1]).choices == (0.001, 0.1)
    assert parse_one("schedule.milestones", [["5e-1"]]).choices == ([0.5],)


def test_a_bare_off_is_no_boolean() -> None:
    values = yaml.safe_load("amp: [off, bf16]\nchannels_last: {choices: [on, off], when: {amp: off}}")
    amp, channels = parse_space(values, BASE, "space.yaml")
    assert amp.choices == ("off", "bf16")
    assert channels.choices == (True, False)
    assert channels.is_active({"amp": "off"})
    assert not channels.is_active({"amp": "bf16"})


def test_conditions_in_a_chain() -> None:
    text = """
    optimizer.name: [sgd, adamw]
    optimizer.momentum: {choices: [0.0, 0.5, 0.9], when: {optimizer.name: sgd}}
    optimizer.nesterov: {choices: [true, false], when: {optimizer.momentum: [0.5, 0.9]}}
    batch_size: [64, 128]
    optimizer.lr: {low: 0.1, high: 1, when: {optimizer.name: [sgd], batch_size: [128]}}
    """
    name, momentum, nesterov, _, lr = parse_space(yaml.safe_load(text), BASE, "space.yaml")
    assert momentum.when == {"optimizer.name": ("sgd",)}
    assert name.is_active({})
    assert momentum.is_active({"optimizer.name": "sgd"})
    assert not momentum.is_active({"optimizer.name": "adamw"})
    assert not momentum.is_active({})
    assert nesterov.is_active({"optimizer.name": "sgd", "optimizer.momentum": 0.9})
    assert not nesterov.is_active({"optimizer.name": "sgd", "optimizer.momentum": 0.0})
    # What it depends on is itself inactive, whatever the recipe's own value is.
    assert not nesterov.is_active({"optimizer.name": "adamw"})
    assert lr.is_active({"optimizer.name": "sgd", "batch_size": 128})
    assert not lr.is_active({"optimizer.name": "sgd", "batch_size": 64})
    assert not lr.is_active({"optimizer.name": "adamw", "batch_size": 128})


def test_a_condition_on_lists_and_one_that_always_holds() -> None:
    hidden, features = parse_space(
        {"model.hidden": [[3], [5, 2]], "model.base_channels": {"choices": [8], "when": {"model.hidden": [[5, 2]]}}},
        BASE,
        "space.yaml",
    )
    assert features.is_active({"model.hidden": [5, 2]})
    assert not features.is_active({"model.hidden": [3]})
    assert hidden.is_active({})


def test_the_recipe_s_own_nesterov_is_off_where_it_would_mean_nothing() -> None:
    compact = RECIPES["compact"]
    assert apply_params(compact, {"optimizer.lr": 0.1}).optimizer.nesterov
    assert apply_params(compact, {"optimizer.momentum": 0.5}).optimizer.nesterov
    assert not apply_params(compact, {"optimizer.name": "adamw"}).optimizer.nesterov
    assert not apply_params(compact, {"optimizer.momentum": 0.0}).optimizer.nesterov
    with pytest.raises(NephrosError, match=r"--optimizer\.nesterov is True"):
        apply_params(compact, {"optimizer.name": "adam", "optimizer.nesterov": True})


@pytest.mark.parametrize(
    ("values", "base"),
    [
        ({"optimizer.name": ["sgd", "adamw"]}, RECIPES["compact"]),
        ({"optimizer.momentum": {"low": 0.5, "high": 0.9}, "optimizer.nesterov": [True, False]}, Recipe()),
        ({"schedule.name": ["step", "cosine"], "schedule.milestones": [[0.5], [0.3]]}, Recipe()),
        ({"amp": ["off", "auto"], "optimizer.momentum": {"low": 0.5, "high": 0.9, "when": {"amp": "auto"}}}, Recipe()),
        ({"schedule.step_epochs": {"low": 0, "high": 5}, "schedule.milestones": [[0.5], []]}, RECIPES["nephnet2d"]),
        (
            {
                "optimizer.name": ["adam", "sgd"],
                "optimizer.momentum": {"low": 0.5, "high": 0.9, "when": {"optimizer.name": "sgd"}},
                "optimizer.nesterov": {"choices": [True, False], "when": {"optimizer.name": "sgd"}},
            },
            Recipe(),
        ),
    ],
)
def test_fields_that_need_each_other_are_judged_together(values: Any, base: Recipe) -> None:
    assert len(parse_space(values, base, "space.yaml")) == len(values)


@pytest.mark.parametrize(
    ("values", "base", "expected"),
    [
        ({"optimizer.nesterov": [False, True]}, Recipe(), ["'optimizer.nesterov' can't be True", "momentum above 0"]),
        (
            {"schedule.name": ["cosine", "step"]},
            Recipe(),
            ["'schedule.name' can't be step", "--schedule.milestones or"],
        ),
        (
            {"schedule.milestones": [[0.5], []]},
            RECIPES["nephnet2d"],
            ["'schedule.milestones' can't be [0.5]", "either --schedule.milestones or --schedule.step_epochs"],
        ),
        (
            {
                "optimizer.name": ["sgd", "adam"],
                "optimizer.momentum": {"low": 0.5, "high": 0.9},
                "optimizer.nesterov": {"choices": [True, False], "when": {"optimizer.name": "adam"}},
            },
            Recipe(),
            ["'optimizer.nesterov' can't be True"],
        ),
        (
            {
                "amp": ["off", "auto"],
                "batch_size": {"choices": [8, 9], "when": {"amp": "off"}},
                "optimizer.momentum": {"choices": [0.5], "when": {"amp": "auto", "batch_size": 8}},
            },
            Recipe(),
            ["'optimizer.momentum' can't be 0.5", "never comes together"],
        ),
    ],
)
def test_a_value_that_goes_together_with_nothing(values: Any, base: Recipe, expected: list[str]) -> None:
    with pytest.raises(NephrosError) as excinfo:
        parse_space(values, base, "space.yaml")
    assert str(excinfo.value).startswith("space.yaml: '")
    for part in expected:
        assert part in str(excinfo.value)


RANGE = "must be a list of choices or a range such as {low: 1, high: 9}"
WRONG: list[tuple[str, list[str]]] = [
    ("", ["holds no space", "write lines such as 'optimizer.lr"]),
    ("{}", ["holds no space"]),
    ("- optimizer.lr", ["holds no space"]),
    ("optimiser.lr: [1]", ["there is no field 'optimiser.lr'", "Did you mean 'optimizer.lr'?"]),
    ("batchsize: [1]", ["there is no field 'batchsize'", "Did you mean 'batch_size'?"]),
    ("3: [1]", ["there is no field '3'"]),
    ("optimizer: {lr: [0.1]}", ["'optimizer' is a group of fields", "'optimizer.name'"]),
    ("epochs: [1, 2]", ["'epochs' can't be searched", "--max-epochs"]),
    ("metric: [val_auc]", ["'metric' can't be searched", "--metric"]),
    ("name: [a]", ["'name' can't be searched"]),
    ("source: [a]", ["'source' can't be searched"]),
    ("optimizer.lr: 0.1", ["'optimizer.lr'", RANGE]),
    ("optimizer.lr:", ["'optimizer.lr'", RANGE]),
    ("optimizer.lr: {low: 0.1}", ["'optimizer.lr'", RANGE]),
    ("optimizer.lr: {high: 0.1}", ["'optimizer.lr'", RANGE]),
    ("optimizer.lr: {lo: 0.1, high: 1}", ["'optimizer.lr'", RANGE]),
    ("optimizer.lr: {low: 0.1, high: 1, step: 2}", ["'optimizer.lr'", RANGE]),
    ("optimizer.lr: {when: {}}", ["'optimizer.lr'", RANGE]),
    (
        "optimizer.lr: {low: 0.1, high: 0.01}",
        ["'optimizer.lr' has an empty range, 0.1 to 0.01", "low must be below high"],
    ),
    ("batch_size: {low: 8, high: 8}", ["'batch_size' has an empty range, 8 to 8"]),
    ("optimizer.lr: {low: fast, high: 1}", ["'optimizer.lr' has low fast", "a number"]),
    ("optimizer.lr: {low: 0.1, high: true}", ["'optimizer.lr' has high True", "a number"]),
    ("optimizer.lr: {low: 0.1, high: null}", ["'optimizer.lr' has high null"]),
    ("optimizer.lr: {low: 0.1, high: [1]}", ["'optimizer.lr' has high [1]", "a number"]),
    ("optimizer.lr: {low: .nan, high: 1}", ["'optimizer.lr' has low nan"]),
    ("optimizer.lr: {low: 0.1, high: .nan}", ["'optimizer.lr' has high nan"]),
    ("optimizer.lr: {low: 0.1, high: .inf}", ["'optimizer.lr' has high inf", "a number"]),
    ("optimizer.weight_decay: {low: -.inf, high: 1}", ["'optimizer.weight_decay' has low -inf", "at least 0"]),
    ("optimizer.weight_decay: {low: 0, high: 1e999}", ["'optimizer.weight_decay' has high", "a number"]),
    ("batch_size: {low: 8.0, high: 64}", ["'batch_size' has low 8.0", "a whole number"]),
    ("batch_size: {low: 8, high: 64.5}", ["'batch_size' has high 64.5", "a whole number"]),
    ("batch_size: {low: true, high: 64}", ["'batch_size' has low True", "a whole number"]),
    ("batch_size: {low: 0, high: 64}", ["'batch_size' has low 0", "a whole number of at least 1"]),
    ("optimizer.lr: {low: -1, high: 1, log: true}", ["'optimizer.lr' has low -1.0", "above 0"]),
    ("optimizer.weight_decay: {low: 0, high: 1, log: true}", ["'optimizer.weight_decay'", "log scale", "above 0"]),
    ("augment.shift: {low: 0, high: 3, log: true}", ["'augment.shift'", "log scale", "above 0"]),
    ("optimizer.lr: {low: 0.1, high: 1, log: maybe}", ["'optimizer.lr' has log maybe", "true or false"]),
    ("optimizer.lr: {low: 0.1, high: 1, log: 1}", ["'optimizer.lr' has log 1", "true or false"]),
    ("model.dropout: {low: 0, high: 1.2}", ["'model.dropout' has high 1.2", "at least 0 and below 1"]),
    ("model.dropout: [0.5, 1.2]", ["'model.dropout' has the choice 1.2", "at least 0 and below 1"]),
    ("model.network: {low: 1, high: 2}", ["'model.network' has no range", "list its choices"]),
    ("optimizer.nesterov: {low: 0, high: 1}", ["'optimizer.nesterov' has no range"]),
    ("model.hidden: {low: 1, high: 2}", ["'model.hidden' has no range"]),
    ("batch_size: []", ["'batch_size' has no choices"]),
    ("batch_size: {choices: 3}", ["'batch_size' has no choices"]),
    ("batch_size: {choices: [3, 4], log: true}", ["'batch_size' has choices", "leave them out"]),
    ("batch_size: {choices: [3, 4], low: 1, high: 2}", ["'batch_size' has choices", "leave them out"]),
    ("batch_size: [64, 128, 64]", ["'batch_size' lists the choice 64 twice"]),
    ("optimizer.lr: [1, 1.0]", ["'optimizer.lr' lists the choice 1.0 twice"]),
    ("amp: [off, 'off']", ["'amp' lists the choice \"off\" twice"]),
    ("model.hidden: [[1, 2], [1, 2]]", ["'model.hidden' lists the choice [1, 2] twice"]),
    ("model.base_channels: [big]", ["'model.base_channels' has the choice big", "a whole number"]),
    ("model.base_channels: [8, true]", ["'model.base_channels' has the choice True", "a whole number"]),
    ("model.base_channels: [8, 16.5]", ["'model.base_channels' has the choice 16.5", "a whole number"]),
    ("model.base_channels: [8, null]", ["'model.base_channels' has the choice null"]),
    ("model.base_channels: [0]", ["'model.base_channels' has the choice 0", "at least 1"]),
    ("model.hidden: [100, 50]", ["'model.hidden' has the choice 100", "a list such as [1, 2]"]),
    ("model.hidden: [[100, wide]]", ["'model.hidden' has the choice", "wide", "a whole number"]),
    ("schedule.milestones: [[0.5], [1.5]]", ["'schedule.milestones' has the choice (1.5,)", "between 0 and 1"]),
    ("optimizer.name: [sgd, rmsprop]", ["'optimizer.name' has the choice rmsprop", "'sgd', 'adam', 'adamw'"]),
    ("optimizer.nesterov: [true, 0]", ["'optimizer.nesterov' has the choice 0", "true or false"]),
    (
        "model.network: [compact, compakt]",
        ["'model.network' has the choice compakt", "compact, equivariant, course, poster"],
    ),
    (
        "model.network: [[compact]]",
        ["'model.network' has the choice ['compact']", "compact, equivariant, course, poster"],
    ),
    ("amp: [on]", ["'amp' has the choice True", "'off', 'auto'"]),
    ("optimizer.lr: [2020-01-01]", ["'optimizer.lr' has the choice 2020-01-01", "a number"]),
    ("optimizer.lr: {low: 0.1, high: 1, when: sgd}", ["'optimizer.lr' has when sgd", "{optimizer.name: [sgd]}"]),
    (
        "optimizer.lr: {low: 0.1, high: 1, when: {optimizer.nam: sgd}}",
        ["'optimizer.lr'", "there is no field 'optimizer.nam'"],
    ),
    (
        "optimizer.lr: {low: 0.1, high: 1, when: {optimizer.name: sgd}}\noptimizer.name: [sgd]",
        ["'optimizer.lr' depends on 'optimizer.name'", "must stand above it"],
    ),
    ("amp: {choices: [auto], when: {amp: auto}}", ["'amp' depends on 'amp'", "must stand above it"]),
    (
        "optimizer.name: [sgd, adam]\nbatch_size: {choices: [8], when: {optimizer.name: [sgd, adamw]}}",
        ["'batch_size' depends on 'optimizer.name' being adamw", "its choices are sgd, adam"],
    ),
    (
        "optimizer.name: [sgd, adam]\nbatch_size: {choices: [8], when: {optimizer.name: [3]}}",
        ["'batch_size' depends on 'optimizer.name' being 3", "its choices are sgd, adam"],
    ),
    (
        "optimizer.name: [sgd, adam]\nbatch_size: {choices: [8], when: {optimizer.name: []}}",
        ["'batch_size' depends on 'optimizer.name' being nothing", "list at least one"],
    ),
    (
        "optimizer.lr: {low: 0.1, high: 1}\nbatch_size: {choices: [8], when: {optimizer.lr: 0.5}}",
        ["'batch_size' depends on 'optimizer.lr'", "only choices"],
    ),
    ("optimizer.lr: [1]\nbatch_size: [3]\noptimizer.lr: [2]", ["'optimizer.lr' stands there twice", "keep one"]),
    ("optimizer.lr: {low: 0.1, low: 0.2, high: 1}", ["'low' stands there twice"]),
    ("optimizer.lr: [1,", ["can't be read (it is not YAML text)"]),
    ("optimizer.lr: [2020-13-45]", ["can't be read (it is not YAML text)"]),
    ("? [1]\n: 2", ["can't be read (it is not YAML text)"]),
    ("[" * 1000 + "]" * 1000, ["can't be read (it is not YAML text)"]),
]


@pytest.mark.parametrize(("text", "expected"), WRONG, ids=[text[:60] for text, _ in WRONG])
def test_what_is_wrong_is_said_in_one_plain_sentence(text: str, expected: list[str], tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    with pytest.raises(NephrosError) as excinfo:
        read_space(file, BASE)
    message = str(excinfo.value)
    for part in [str(file), *expected]:
        assert part in message
    assert "\n" not in message
    assert message.endswith((".", "?"))
    assert "Error" not in message
    assert "None" not in message


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(NephrosError, match=r"space .*absent\.yaml can't be read \(No such file or directory\)"):
        read_space(tmp_path / "absent.yaml", BASE)
    with pytest.raises(NephrosError, match=r"can't be read \(Is a directory\)"):
        read_space(tmp_path, BASE)
    (tmp_path / "latin.yaml").write_bytes("# Größe\nbatch_size: [1]".encode("latin-1"))
    with pytest.raises(NephrosError, match=r"latin\.yaml can't be read"):
        read_space(tmp_path / "latin.yaml", BASE)


def test_the_example_in_the_docstring(tmp_path: Path) -> None:
    import nephros.tuning.space as module

    file = tmp_path / "space.yaml"
    file.write_text(str(module.__doc__).partition("\n\n")[2])
    assert len(read_space(file, RECIPES["compact"])) == 5


def test_the_recipe_stays_as_it_was() -> None:
    before = BASE.to_dict()
    apply_params(BASE, {"augment.shift": 2, "amp": "auto"})
    assert BASE.to_dict() == before
    assert apply_params(BASE, {"augment.shift": 2}).augment == AugmentConfig(shift=2)
    with pytest.raises(NephrosError, match=r"--augment\.shift is -1"):
        apply_params(BASE, {"augment.shift": -1})
