"""Recipes and search spaces in YAML: aliases are counted with all that they stand for, before anything is expanded."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from nephros.errors import FileError
from nephros.presets import RECIPES
from nephros.recipe import to_yaml
from nephros.recipe_io import read_recipe
from nephros.tuning.space import read_space
from nephros.yaml_values import MAX_YAML_BYTES, MAX_YAML_VALUES, parse_yaml


def _nested_aliases() -> str:
    text = f"&a0 [{','.join('1' * 8)}]"
    for i in range(1, 9):
        text = f"&a{i} [{text},{','.join([f'*a{i - 1}'] * 7)}]"
    return text  # 300 bytes that stand for 8 ** 9 numbers


def _nested_merges() -> str:
    lines = ["a0: &a0 {k0: 1, k1: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 9)]
    return "\n".join(lines)


BOMBS = {
    "number": f"epochs: {_nested_aliases()}",
    "list": f"model:\n  hidden: {_nested_aliases()}",
    "string": f"epochs: '{_nested_aliases()}'",
    "string in a list": f"model:\n  hidden: ['{_nested_aliases()}']",
    "block of text": f"epochs: |\n  {_nested_aliases()}",
    "key": f"? {_nested_aliases()}\n: 1",
    "merged": _nested_merges(),
    "loop": "model: &m\n  hidden: [*m]",
    "wide": f"model:\n  hidden: [{','.join('1' * (MAX_YAML_VALUES + 1))}]",
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("reader", ["recipe", "space"])
def test_aliases_are_counted_before_they_cost_memory(name: str, reader: str, tmp_path: Path) -> None:
    file = tmp_path / "bomb.yaml"
    file.write_text(BOMBS[name])
    tracemalloc.start()
    with pytest.raises(FileError, match=f"more than {MAX_YAML_VALUES:,} values") as excinfo:
        _read(reader, file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert excinfo.value.path == file
    assert "\n" not in str(excinfo.value)
    assert peak < 64 << 20


def _read(reader: str, file: Path) -> Any:
    return read_recipe(file) if reader == "recipe" else read_space(file, RECIPES["poster"])


@pytest.mark.parametrize("reader", ["recipe", "space"])
def test_large_files_are_not_parsed(reader: str, tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_text("epochs: 3\n# " + "x" * MAX_YAML_BYTES)
    with pytest.raises(FileError, match="larger than") as excinfo:
        _read(reader, file)
    assert excinfo.value.path == file


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "value", ["9" * 6000, "0x" + "F" * 5000, ":".join(["59"] * 5000), "[" * 3000 + "]" * 3000, "2020-13-45"]
)
def test_endless_numbers_and_lists_are_no_recipe(value: str, tmp_path: Path) -> None:
    file = tmp_path / "endless.yaml"
    file.write_text(f"epochs: {value}")
    with pytest.raises(FileError, match="be read") as excinfo:
        read_recipe(file)
    assert excinfo.value.path == file


def test_a_few_aliases_and_signs_in_texts_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_text("epochs: &n 5\nbatch_size: *n\nsource: 'A & B * C'\nname: x & *y\n")
    recipe = read_recipe(file)
    assert (recipe.epochs, recipe.batch_size, recipe.source, recipe.name) == (5, 5, "A & B * C", "x & *y")


@pytest.mark.parametrize("name", RECIPES)
def test_own_recipes_are_far_below_the_bounds(name: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(to_yaml(RECIPES[name]))
    assert file.stat().st_size < MAX_YAML_BYTES / 10
    assert isinstance(parse_yaml(file.read_text()), dict)
