"""Search spaces: every field can be searched, conditions hold, and invalid spaces name the field at fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from nephros.errors import FileError, NephrosError
from nephros.presets import RECIPES
from nephros.recipe import AugmentConfig, LRScheduleConfig, OptimizerConfig, Recipe
from nephros.recipe_io import field_names
from nephros.tuning.space import (
    NOT_SEARCHABLE,
    Dimension,
    SpaceError,
    apply_params,
    parse_space,
    read_space,
    space_to_dict,
)

BASE = Recipe(optimizer=OptimizerConfig(momentum=0.9), schedule=LRScheduleConfig(milestones=(0.5,)))
"""A recipe that accepts each value of each field."""

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
    "augment.unaugmented_epochs": {"low": 0, "high": 2},
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


def recipe_value(recipe: Recipe, key: str) -> Any:
    group, _, name = key.partition(".")
    value = {"classical": {}, "knn": {}, "svm": {}, **recipe.to_dict()}[group]
    return value.get(name) if name else value


def parse_one(key: str, value: Any, base: Recipe = BASE) -> Dimension:
    (dimension,) = parse_space({key: value}, base, "space.yaml")
    return dimension


def test_the_dimensions_above_cover_every_searchable_field() -> None:
    assert set(DIMENSIONS) == {key for key in field_names() if key.partition(".")[0] not in NOT_SEARCHABLE}


@pytest.mark.parametrize("key", DIMENSIONS)
def test_every_field_can_be_searched(key: str, tmp_path: Path) -> None:
    """Each extreme of a dimension from a YAML file becomes the recipe's value, and nothing else changes."""
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
def test_every_number_may_have_choices(key: str) -> None:
    assert parse_one(key, [DIMENSIONS[key]["low"], DIMENSIONS[key]["high"]]).kind == "categorical"


def test_a_dimension_has_the_kind_of_its_field() -> None:
    assert parse_one("optimizer.lr", {"low": 1, "high": 3}) == Dimension("optimizer.lr", "float", 1.0, 3.0)
    assert isinstance(parse_one("optimizer.lr", {"low": 1, "high": 3}).low, float)
    assert parse_one("batch_size", {"low": 16, "high": 64, "log": True}) == Dimension(
        "batch_size", "int", 16, 64, log=True
    )
    assert isinstance(parse_one("batch_size", {"low": 16, "high": 64}).high, int)
    assert parse_one("batch_size", {"choices": [16]}) == Dimension("batch_size", "categorical", choices=(16,))
    assert parse_one("model.hidden", [[3], []]).choices == ([3], [])


def test_a_space_of_all_fields_survives_json() -> None:
    values = DIMENSIONS | {"optimizer.momentum": {"low": 0.5, "high": 0.9, "when": {"optimizer.name": ["sgd"]}}}
    values = dict(sorted(values.items(), key=lambda item: item[0] != "optimizer.name"))
    space = parse_space(values, BASE, "space.yaml")
    assert [dimension.key for dimension in space] == list(values)
    assert parse_space(json.loads(json.dumps(space_to_dict(space))), BASE, "again") == space
    low = {dimension.key: dimension.extremes[0] for dimension in space}
    recipe = apply_params(BASE, low)
    assert {key: recipe_value(recipe, key) for key in low} == low


def test_numbers_that_yaml_reads_as_text_are_converted() -> None:
    assert yaml.safe_load("1e-3") == "1e-3"
    assert parse_one("optimizer.lr", yaml.safe_load("{low: 1e-3, high: 3e-1, log: true}")) == Dimension(
        "optimizer.lr", "float", 0.001, 0.3, log=True
    )
    assert parse_one("optimizer.lr", ["1e-3", 0.1]).choices == (0.001, 0.1)
    assert parse_one("schedule.milestones", [["5e-1"]]).choices == ([0.5],)


def test_a_bare_off_is_a_choice_of_amp() -> None:
    values = yaml.safe_load("amp: [off, bf16]\nchannels_last: {choices: [on, off], when: {amp: off}}")
    amp, channels = parse_space(values, BASE, "space.yaml")
    assert amp.choices == ("off", "bf16")
    assert channels.choices == (True, False)
    assert channels.is_active({"amp": "off"})
    assert not channels.is_active({"amp": "bf16"})


def test_conditions_may_form_a_chain() -> None:
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
    # Its parent is itself inactive, whatever the recipe's own value.
    assert not nesterov.is_active({"optimizer.name": "adamw"})
    assert lr.is_active({"optimizer.name": "sgd", "batch_size": 128})
    assert not lr.is_active({"optimizer.name": "sgd", "batch_size": 64})
    assert not lr.is_active({"optimizer.name": "adamw", "batch_size": 128})


def test_a_condition_may_be_on_lists() -> None:
    hidden, features = parse_space(
        {"model.hidden": [[3], [5, 2]], "model.base_channels": {"choices": [8], "when": {"model.hidden": [[5, 2]]}}},
        BASE,
        "space.yaml",
    )
    assert features.is_active({"model.hidden": [5, 2]})
    assert not features.is_active({"model.hidden": [3]})
    assert hidden.is_active({})


def test_nesterov_of_the_recipe_is_off_where_it_would_mean_nothing() -> None:
    compact = RECIPES["compact"]
    assert apply_params(compact, {"optimizer.lr": 0.1}).optimizer.nesterov
    assert apply_params(compact, {"optimizer.momentum": 0.5}).optimizer.nesterov
    assert not apply_params(compact, {"optimizer.name": "adamw"}).optimizer.nesterov
    assert not apply_params(compact, {"optimizer.momentum": 0.0}).optimizer.nesterov
    with pytest.raises(NephrosError, match=r"optimizer\.nesterov.* is True"):
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
def test_interdependent_fields_are_checked_together(values: Any, base: Recipe) -> None:
    assert len(parse_space(values, base, "space.yaml")) == len(values)


@pytest.mark.parametrize(
    ("values", "base", "expected"),
    [
        ({"optimizer.nesterov": [False, True]}, Recipe(), ("optimizer.nesterov", ["True", "momentum above 0"])),
        (
            {"schedule.name": ["cosine", "step"]},
            Recipe(),
            ("schedule.name", ["step", "schedule.milestones"]),
        ),
        (
            {"schedule.milestones": [[0.5], []]},
            RECIPES["nephnet2d"],
            ("schedule.milestones", ["[0.5]", "schedule.milestones", "schedule.step_epochs"]),
        ),
        (
            {
                "optimizer.name": ["sgd", "adam"],
                "optimizer.momentum": {"low": 0.5, "high": 0.9},
                "optimizer.nesterov": {"choices": [True, False], "when": {"optimizer.name": "adam"}},
            },
            Recipe(),
            ("optimizer.nesterov", ["True"]),
        ),
        (
            {
                "amp": ["off", "auto"],
                "batch_size": {"choices": [8, 9], "when": {"amp": "off"}},
                "optimizer.momentum": {"choices": [0.5], "when": {"amp": "auto", "batch_size": 8}},
            },
            Recipe(),
            ("optimizer.momentum", ["0.5", "never hold"]),
        ),
    ],
)
def test_a_value_that_no_combination_accepts_is_named(
    values: Any, base: Recipe, expected: tuple[str, list[str]]
) -> None:
    key, facts = expected
    with pytest.raises(SpaceError) as excinfo:
        parse_space(values, base, "space.yaml")
    assert (excinfo.value.source, excinfo.value.key) == ("space.yaml", key)
    for fact in facts:
        assert fact in str(excinfo.value)


RANGE = "a list of choices or a range such as {low: 1, high: 9}"
INVALID_SPACES: list[tuple[str, str, list[str]]] = [
    ("", "", ["optimizer.lr: {low"]),
    ("{}", "", ["optimizer.lr: {low"]),
    ("- optimizer.lr", "", ["optimizer.lr: {low"]),
    ("optimiser.lr: [1]", "optimiser.lr", ["Did you mean 'optimizer.lr'?"]),
    ("batchsize: [1]", "batchsize", ["Did you mean 'batch_size'?"]),
    ("3: [1]", "3", ["not a field"]),
    ("optimizer: {lr: [0.1]}", "optimizer", ["'optimizer.name'"]),
    ("epochs: [1, 2]", "epochs", ["`max_epochs`"]),
    ("metric: [val_auc]", "metric", ["`metric`"]),
    ("name: [a]", "name", ["can't be searched"]),
    ("source: [a]", "source", ["can't be searched"]),
    ("optimizer.lr: 0.1", "optimizer.lr", [RANGE]),
    ("optimizer.lr:", "optimizer.lr", [RANGE]),
    ("optimizer.lr: {low: 0.1}", "optimizer.lr", [RANGE]),
    ("optimizer.lr: {high: 0.1}", "optimizer.lr", [RANGE]),
    ("optimizer.lr: {lo: 0.1, high: 1}", "optimizer.lr", [RANGE]),
    ("optimizer.lr: {low: 0.1, high: 1, step: 2}", "optimizer.lr", [RANGE]),
    ("optimizer.lr: {when: {}}", "optimizer.lr", [RANGE]),
    ("optimizer.lr: {low: 0.1, high: 0.01}", "optimizer.lr", ["empty range, 0.1 to 0.01"]),
    ("batch_size: {low: 8, high: 8}", "batch_size", ["empty range, 8 to 8"]),
    ("optimizer.lr: {low: fast, high: 1}", "optimizer.lr", ["low fast", "a number"]),
    ("optimizer.lr: {low: 0.1, high: true}", "optimizer.lr", ["high True", "a number"]),
    ("optimizer.lr: {low: 0.1, high: null}", "optimizer.lr", ["high null"]),
    ("optimizer.lr: {low: 0.1, high: [1]}", "optimizer.lr", ["high [1]", "a number"]),
    ("optimizer.lr: {low: .nan, high: 1}", "optimizer.lr", ["low nan"]),
    ("optimizer.lr: {low: 0.1, high: .nan}", "optimizer.lr", ["high nan"]),
    ("optimizer.lr: {low: 0.1, high: .inf}", "optimizer.lr", ["high inf", "a number"]),
    ("optimizer.weight_decay: {low: -.inf, high: 1}", "optimizer.weight_decay", ["low -inf", "at least 0"]),
    ("optimizer.weight_decay: {low: 0, high: 1e999}", "optimizer.weight_decay", ["high", "a number"]),
    ("batch_size: {low: 8.0, high: 64}", "batch_size", ["low 8.0", "a whole number"]),
    ("batch_size: {low: 8, high: 64.5}", "batch_size", ["high 64.5", "a whole number"]),
    ("batch_size: {low: true, high: 64}", "batch_size", ["low True", "a whole number"]),
    ("batch_size: {low: 0, high: 64}", "batch_size", ["low 0", "a whole number of at least 1"]),
    ("optimizer.lr: {low: -1, high: 1, log: true}", "optimizer.lr", ["low -1", "above 0"]),
    ("optimizer.weight_decay: {low: 0, high: 1, log: true}", "optimizer.weight_decay", ["log scale", "above 0"]),
    ("augment.shift: {low: 0, high: 3, log: true}", "augment.shift", ["log scale", "above 0"]),
    ("optimizer.lr: {low: 0.1, high: 1, log: maybe}", "optimizer.lr", ["log maybe", "true or false"]),
    ("optimizer.lr: {low: 0.1, high: 1, log: 1}", "optimizer.lr", ["log 1", "true or false"]),
    ("model.dropout: {low: 0, high: 1.2}", "model.dropout", ["high 1.2", "at least 0 and below 1"]),
    ("model.dropout: [0.5, 1.2]", "model.dropout", ["choice 1.2", "at least 0 and below 1"]),
    ("model.network: {low: 1, high: 2}", "model.network", ["no range"]),
    ("optimizer.nesterov: {low: 0, high: 1}", "optimizer.nesterov", ["no range"]),
    ("model.hidden: {low: 1, high: 2}", "model.hidden", ["no range"]),
    ("batch_size: []", "batch_size", ["no choices"]),
    ("batch_size: {choices: 3}", "batch_size", ["no choices"]),
    ("batch_size: {choices: [3, 4], log: true}", "batch_size", ["leave them out"]),
    ("batch_size: {choices: [3, 4], low: 1, high: 2}", "batch_size", ["leave them out"]),
    ("batch_size: [64, 128, 64]", "batch_size", ["choice 64 twice"]),
    ("optimizer.lr: [1, 1.0]", "optimizer.lr", ["choice 1.0 twice"]),
    ("amp: [off, 'off']", "amp", ['choice "off" twice']),
    ("model.hidden: [[1, 2], [1, 2]]", "model.hidden", ["choice [1, 2] twice"]),
    ("model.base_channels: [big]", "model.base_channels", ["choice big", "a whole number"]),
    ("model.base_channels: [8, true]", "model.base_channels", ["choice True", "a whole number"]),
    ("model.base_channels: [8, 16.5]", "model.base_channels", ["choice 16.5", "a whole number"]),
    ("model.base_channels: [8, null]", "model.base_channels", ["choice null"]),
    ("model.base_channels: [0]", "model.base_channels", ["choice 0", "at least 1"]),
    ("model.hidden: [100, 50]", "model.hidden", ["choice 100", "a list such as [1, 2]"]),
    ("model.hidden: [[100, wide]]", "model.hidden", ["wide", "a whole number"]),
    ("schedule.milestones: [[0.5], [1.5]]", "schedule.milestones", ["choice [1.5]", "between 0 and 1"]),
    ("optimizer.name: [sgd, rmsprop]", "optimizer.name", ["choice rmsprop", "'sgd', 'adam', 'adamw'"]),
    ("optimizer.nesterov: [true, 0]", "optimizer.nesterov", ["choice 0", "true or false"]),
    ("model.network: [compact, compakt]", "model.network", ["choice compakt", "compact, equivariant, course, poster"]),
    ("model.network: [[compact]]", "model.network", ["choice ['compact']", "compact, equivariant, course, poster"]),
    ("amp: [on]", "amp", ["choice True", "'off', 'auto'"]),
    ("optimizer.lr: [2020-01-01]", "optimizer.lr", ["choice 2020-01-01", "a number"]),
    ("optimizer.lr: {low: 0.1, high: 1, when: sgd}", "optimizer.lr", ["when sgd", "{optimizer.name: [sgd]}"]),
    (
        "optimizer.lr: {low: 0.1, high: 1, when: {optimizer.nam: sgd}}",
        "optimizer.lr",
        ["'optimizer.nam'", "Did you mean 'optimizer.name'?"],
    ),
    (
        "optimizer.lr: {low: 0.1, high: 1, when: {optimizer.name: sgd}}\noptimizer.name: [sgd]",
        "optimizer.lr",
        ["'optimizer.name'", "must stand above it"],
    ),
    ("amp: {choices: [auto], when: {amp: auto}}", "amp", ["'amp'", "must stand above it"]),
    (
        "optimizer.name: [sgd, adam]\nbatch_size: {choices: [8], when: {optimizer.name: [sgd, adamw]}}",
        "batch_size",
        ["'optimizer.name' being adamw", "sgd, adam"],
    ),
    (
        "optimizer.name: [sgd, adam]\nbatch_size: {choices: [8], when: {optimizer.name: [3]}}",
        "batch_size",
        ["'optimizer.name' being 3", "sgd, adam"],
    ),
    (
        "optimizer.name: [sgd, adam]\nbatch_size: {choices: [8], when: {optimizer.name: []}}",
        "batch_size",
        ["'optimizer.name' being nothing"],
    ),
    (
        "optimizer.lr: {low: 0.1, high: 1}\nbatch_size: {choices: [8], when: {optimizer.lr: 0.5}}",
        "batch_size",
        ["'optimizer.lr'", "range"],
    ),
    ("optimizer.lr: {low: .nan, high: 1}", "optimizer.lr", ["low"]),
    ("optimizer.lr: {low: 1, high: .inf}", "optimizer.lr", ["high"]),
]
"""Text of a space file, the field at fault, and the facts that the message states."""


@pytest.mark.parametrize(("text", "key", "facts"), INVALID_SPACES, ids=[text[:60] for text, _, _ in INVALID_SPACES])
def test_an_invalid_space_names_its_file_the_field_and_the_fact(
    text: str, key: str, facts: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    with pytest.raises(SpaceError) as excinfo:
        read_space(file, BASE)
    message = str(excinfo.value)
    assert excinfo.value.source == str(file)
    assert excinfo.value.key == key
    for fact in [str(file), *([f"'{key}'"] if key else []), *facts]:
        assert fact in message
    assert "\n" not in message
    assert message.endswith((".", "?"))
    assert "Error" not in message
    assert "None" not in message


@pytest.mark.parametrize(
    "text",
    [
        "optimizer.lr: [1,",
        "optimizer.lr: [2020-13-45]",
        "? [1]\n: 2",
        "[" * 1000 + "]" * 1000,
        "optimizer.lr: [1]\nbatch_size: [3]\noptimizer.lr: [2]",
        "optimizer.lr: {low: 0.1, low: 0.2, high: 1}",
        "batch_size: [" + "9" * 6000 + "]",
        "batch_size: {low: 1, high: 0x" + "f" * 6000 + "}",
    ],
)
def test_text_that_is_no_yaml_names_the_file(text: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    with pytest.raises(FileError) as excinfo:
        read_space(file, BASE)
    assert excinfo.value.path == file
    assert "\n" not in str(excinfo.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("# Größe\nbatch_size: [1]".encode("latin-1"))
    for path, reason in (
        (tmp_path / "absent.yaml", "does not exist"),
        (tmp_path, "Is a directory"),
        (tmp_path / "latin.yaml", "UTF-8"),
    ):
        with pytest.raises(FileError, match=reason) as excinfo:
            read_space(path, BASE)
        assert excinfo.value.path == path
        assert str(path) in str(excinfo.value)


def test_the_example_in_the_docstring_is_a_space(tmp_path: Path) -> None:
    import nephros.tuning.space as module

    file = tmp_path / "space.yaml"
    file.write_text(str(module.__doc__).partition("\n\n")[2])
    assert len(read_space(file, RECIPES["compact"])) == 5


def test_applying_params_leaves_the_recipe_unchanged() -> None:
    before = BASE.to_dict()
    apply_params(BASE, {"augment.shift": 2, "amp": "auto"})
    assert BASE.to_dict() == before
    assert apply_params(BASE, {"augment.shift": 2}).augment == AugmentConfig(shift=2)
    with pytest.raises(NephrosError, match=r"augment\.shift.* is -1"):
        apply_params(BASE, {"augment.shift": -1})
