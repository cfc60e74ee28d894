"""Recipes from YAML files and from flags: both are parsed by one parser built from the dataclass."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from nephros.errors import InvalidArgument, NephrosError, did_you_mean
from nephros.presets import RECIPES
from nephros.recipe import Recipe

set_parsing_settings(docstring_parse_attribute_docstrings=True)


def field_names() -> list[str]:
    """Return the dotted names of all recipe fields."""
    names = []
    for field in dataclasses.fields(Recipe):
        value = getattr(Recipe(), field.name)
        dotted = (
            [f"{field.name}.{inner.name}" for inner in dataclasses.fields(value)] if _is_nested(value) else [field.name]
        )
        names += dotted
    return names


def _is_nested(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


@functools.cache
def recipe_parser() -> ArgumentParser:
    """Return a parser of every recipe field, for flags and for YAML alike."""
    parser = ArgumentParser(prog="recipe", exit_on_error=False)
    parser.add_class_arguments(Recipe)
    return parser


def apply_overrides(recipe: Recipe, overrides: Namespace | dict[str, Any]) -> Recipe:
    """Return `recipe` with the `overrides` fields (nested by name) in place of its own; UserError for impossible values."""
    changes: dict[str, Any] = {}
    for key, value in dict(overrides.__dict__ if isinstance(overrides, Namespace) else overrides).items():
        current = getattr(recipe, key)
        if _is_nested(current):
            inner = value.__dict__ if isinstance(value, Namespace) else value
            changes[key] = dataclasses.replace(current, **inner)
        else:
            changes[key] = value
    return dataclasses.replace(recipe, **changes)


def recipe_from_dict(values: Any, source: str) -> Recipe:
    """Return the recipe that `values` (nested, as in YAML) describe; fields that they lack keep their defaults.

    Raises UserError, naming `source`, for an unknown field (with the nearest) or a value of the wrong kind.
    """
    if not isinstance(values, dict):
        raise NephrosError(
            f"{source} is not a recipe: write fields such as 'epochs: 5' in it, or start from `nephros recipes NAME`."
        )
    _check_field_names(values, "", source)
    try:
        parsed = recipe_parser().parse_object(values, defaults=False)
    except Exception as error:
        raise parse_error(str(error), source) from None
    return apply_overrides(Recipe(), parsed)


def _check_field_names(values: dict[Any, Any], prefix: str, source: str) -> None:
    names = field_names()
    for key, value in values.items():
        dotted = f"{prefix}{key}"
        group = [name for name in names if name.startswith(f"{dotted}.")]
        if dotted == "amp" and value is False:  # YAML reads a bare off as false
            values[key] = "off"
        elif value is None:
            raise NephrosError(f"{source}: '{dotted}' has no value: write one, or leave the line out.")
        elif group and isinstance(value, dict):
            _check_field_names(value, f"{dotted}.", source)
        elif group or dotted not in names:
            problem = f"'{dotted}' must hold fields such as '{group[0]}'" if group else f"there is no field '{dotted}'"
            raise NephrosError(f"{source}: {problem}.{'' if group else did_you_mean(dotted, names)}")


def parse_error(message: str, source: str = "") -> NephrosError:
    """Return the error that says one of the parser's messages in plain words; `source` names the file it is about, if any."""
    text = " ".join(message.split())
    if group := re.search(r'Parser key "(\w+)": Unable to load config \'(.*?)\'', text):
        return _group_error(*group.groups())
    match = re.search(r'Parser key "([\w.]+)":\s*(.*?) Got value:(.*)$', text)
    if not match:
        return NephrosError(_prefixed(source, text.rstrip(".") + "."))
    key, expected, value = (part.strip() for part in match.groups())
    options = re.search(r"Literal\[(.*?)\]", expected)
    type_names = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "tuple": "a list such as [1, 2]",
    }
    type_name = next(
        (phrase for name, phrase in type_names.items() if f"'{name}'" in expected), "another kind of value"
    )
    return InvalidArgument(key, value, f"one of {options[1]}" if options else type_name, source=source)


def _group_error(group: str, value: str) -> NephrosError:
    """Return the error for a value given to a group of fields, such as ``optimizer``: it names the field that takes it."""
    fields = [name for name in field_names() if name.startswith(f"{group}.")]
    names = {"optimizer": "name", "model": "network", "schedule": "name"}
    field = f"{group}.{names[group]}" if group in names else fields[0]
    return NephrosError(f"`{group}` is a group of fields and takes no value itself: write `{field}` {value}.")


def _prefixed(source: str, sentence: str) -> str:
    return f"{source}: {sentence}" if source else sentence


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in a YAML file; UserError, naming the file, when it can't be read as one."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not YAML text"
        raise NephrosError(
            f"The recipe {path} can't be read ({reason}): name a YAML file or one of `nephros recipes`."
        ) from None
    return recipe_from_dict(values, str(path))


def get_recipe(name: str) -> Recipe:
    """Return the recipe of that name, or in that YAML file; UserError with the nearest name when there is neither."""
    if name in RECIPES:
        return RECIPES[name]
    path = Path(name).expanduser()
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        return read_recipe(path)
    raise NephrosError(f"There is no recipe '{name}'.{did_you_mean(name, RECIPES)} `nephros recipes` lists them.")
