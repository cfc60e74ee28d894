"""Recipes: YAML and back, unknown fields, impossible values."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from nephros.cli import main
from nephros.errors import FileError, InvalidArgument, NephrosError, UnknownName
from nephros.presets import RECIPES
from nephros.recipe import LRScheduleConfig, OptimizerConfig, Recipe, to_yaml
from nephros.recipe_io import field_names, get_recipe, read_recipe, recipe_from_dict


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_prints_as_yaml_that_reads_back_the_same(name: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(to_yaml(RECIPES[name]))
    parsed = get_recipe(str(file))
    assert parsed == RECIPES[name]
    assert parsed.hash == RECIPES[name].hash


def test_recipes_have_different_hashes() -> None:
    assert len({recipe.hash for recipe in RECIPES.values()}) == len(RECIPES)


def test_course_recipes_match_the_report_s_table() -> None:
    rows = [RECIPES[f"course-{row}"] for row in range(1, 8)]
    assert [row.optimizer.lr for row in rows] == [0.01, 0.01, 0.1, 0.01, 0.001, 0.01, 0.01]
    assert [row.epochs for row in rows] == [5, 5, 5, 5, 5, 75, 150]
    assert {(row.batch_size, row.last_batch) for row in rows} == {(223, "short")}
    assert {row.optimizer.momentum for row in rows} == {0.0}


def test_poster_recipes_match_its_two_sets_of_values() -> None:
    tuned, printed = RECIPES["poster"], RECIPES["poster-printed"]
    assert tuned.optimizer == OptimizerConfig("sgd", 0.0253366, 0.8, True, 0.0046684)
    assert printed.optimizer == OptimizerConfig("sgd", 0.025, 0.8, False, 0.004)
    assert (tuned.schedule.patience, tuned.schedule.factor, tuned.epochs, tuned.model.dropout) == (5, 0.29, 100, 0.5)


def test_missing_fields_keep_their_defaults() -> None:
    assert recipe_from_dict({"epochs": 3, "optimizer": {"lr": 0.5}}, "mine.yaml") == Recipe(
        epochs=3, optimizer=OptimizerConfig(lr=0.5)
    )


@pytest.mark.parametrize(
    ("values", "message_parts"),
    [
        ({"epocs": 3}, ["mine.yaml", "'epocs'", "Did you mean 'epochs'"]),
        ({"optimizer": {"lrr": 3}}, ["mine.yaml", "'optimizer.lrr'", "Did you mean 'optimizer.lr'"]),
        ({"optimizer": 3}, ["'optimizer' must hold fields"]),
        ([1, 2], ["mine.yaml is not a recipe"]),
        ({"epochs": None}, ["mine.yaml: 'epochs' has no value"]),
        ({"optimizer": {"lr": None}}, ["mine.yaml: 'optimizer.lr' has no value"]),
    ],
)
def test_errors_in_a_file_name_the_file_and_the_field(values: object, message_parts: list[str]) -> None:
    with pytest.raises(NephrosError) as exc_info:
        recipe_from_dict(values, "mine.yaml")
    for part in message_parts:
        assert part in str(exc_info.value)


@pytest.mark.parametrize(
    ("values", "parameter", "value", "expected"),
    [
        ({"epochs": "many"}, "epochs", "many", "a whole number"),
        ({"optimizer": {"lr": "fast"}}, "optimizer.lr", "fast", "a number"),
        ({"amp": "int3"}, "amp", "int3", "one of 'off', 'auto', 'native', 'bf16', 'fp16'"),
    ],
)
def test_a_value_of_the_wrong_type_names_field_and_file(
    values: object, parameter: str, value: str, expected: str
) -> None:
    with pytest.raises(InvalidArgument) as exc_info:
        recipe_from_dict(values, "mine.yaml")
    error = exc_info.value
    assert (error.parameter, error.value, error.expected) == (parameter, value, expected)
    assert error.source == "mine.yaml"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("label_smoothing", 1.0),
        ("ema_decay", -0.1),
        ("early_stopping_patience", -1),
        ("seed", -1),
        ("model.base_channels", 0),
        ("model.depth", 0),
        ("model.dropout", 1.0),
        ("optimizer.lr", 0.0),
        ("optimizer.lr", float("nan")),
        ("optimizer.momentum", 1.0),
        ("optimizer.weight_decay", -1.0),
        ("schedule.factor", 0.0),
        ("schedule.patience", -1),
        ("schedule.warmup", 1.0),
        ("augment.shift", -1),
        ("augment.rotate", 181.0),
        ("augment.scale", 1.0),
        ("augment.translate", -0.5),
    ],
)
def test_impossible_values_name_their_field(key: str, value: float) -> None:
    group, _, name = key.rpartition(".")
    with pytest.raises(InvalidArgument) as exc_info:
        recipe_from_dict({group: {name: value}} if group else {name: value}, "mine.yaml")
    assert exc_info.value.parameter == key
    assert exc_info.value.value == pytest.approx(value, nan_ok=True)
    assert exc_info.value.source == "mine.yaml"


def test_fields_that_contradict_each_other_are_named() -> None:
    with pytest.raises(InvalidArgument) as exc_info:
        Recipe(optimizer=OptimizerConfig(nesterov=True, momentum=0.0))
    assert exc_info.value.parameter == "optimizer.nesterov"
    with pytest.raises(InvalidArgument) as exc_info:
        Recipe(schedule=LRScheduleConfig(name="step"))
    assert exc_info.value.parameter == "schedule.name"
    assert "schedule.milestones" in str(exc_info.value)


@pytest.mark.parametrize(
    ("argument", "advice"),
    [
        (("--optimizer", "adamw"), "--optimizer.name adamw"),
        (("--model", "resnet18"), "--model.network resnet18"),
        (("--schedule", "cosine"), "--schedule.name cosine"),
    ],
)
def test_a_value_for_a_group_of_fields_suggests_the_field_for_it(
    argument: tuple[str, str], advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", "compact", *argument])
    (line,) = capsys.readouterr().err.splitlines()
    assert advice in line
    assert "arser" not in line


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(FileError) as exc_info:
        read_recipe(tmp_path / "absent.yaml")
    assert exc_info.value.path == tmp_path / "absent.yaml"
    broken = tmp_path / "broken.yaml"
    broken.write_text("epochs: [1,")
    with pytest.raises(FileError, match="YAML"):
        read_recipe(broken)


def test_an_unknown_recipe_suggests_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'poster'") as exc_info:
        get_recipe("postre")
    assert (exc_info.value.parameter, exc_info.value.value) == ("recipe", "postre")


def test_field_names_are_those_of_all_nested_fields() -> None:
    assert "optimizer.lr" in field_names()
    assert "optimizer" not in field_names()
    leaves = 0
    for value in dataclasses.asdict(Recipe()).values():
        leaves += len(value) if isinstance(value, dict) else 1
    assert len(field_names()) == leaves
    assert {*yaml.safe_load(to_yaml(Recipe())), "classical", "knn", "svm"} == {
        key.split(".")[0] for key in field_names()
    }


def test_a_bare_off_in_yaml_is_the_value_off() -> None:
    values = yaml.safe_load("amp: off")
    assert values == {"amp": False}
    assert recipe_from_dict(values, "x").amp == "off"
