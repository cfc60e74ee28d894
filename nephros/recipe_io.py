"""Recipes from YAML files and from flags: both are parsed by one parser built from the dataclass."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from nephros.errors import UserError, did_you_mean
from nephros.presets import RECIPES
from nephros.recipe import Recipe

set_parsing_settings(docstring_parse_attribute_docstrings=True)


def keys() -> list[str]:
    """Return the dotted names of all recipe fields."""
    found = []
    for field in dataclasses.fields(Recipe):
        value = getattr(Recipe(), field.name)
        nested = (
            [f"{field.name}.{inner.name}" for inner in dataclasses.fields(value)] if _nested(value) else [field.name]
        )
        found += nested
    return found


def _nested(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


@functools.cache
def parser() -> ArgumentParser:
    """Return a parser of every recipe field, for flags and for YAML alike."""
    made = ArgumentParser(prog="recipe", exit_on_error=False)
    made.add_class_arguments(Recipe)
    return made


def overlay(recipe: Recipe, given: Namespace | dict[str, Any]) -> Recipe:
    """Return `recipe` with the `given` fields (nested by name) in place of its own; UserError for impossible values."""
    changes: dict[str, Any] = {}
    for key, value in dict(given.__dict__ if isinstance(given, Namespace) else given).items():
        own = getattr(recipe, key)
        if _nested(own):
            inner = value.__dict__ if isinstance(value, Namespace) else value
            changes[key] = dataclasses.replace(own, **inner)
        else:
            changes[key] = value
    return dataclasses.replace(recipe, **changes)


def from_mapping(values: Any, where: str) -> Recipe:
    """Return the recipe that `values` (nested, as in YAML) describe; fields that they lack keep their defaults.

    Raises UserError, naming `where`, for an unknown field (with the nearest) or a value of the wrong kind.
    """
    if not isinstance(values, dict):
        raise UserError(
            f"{where} is not a recipe: write fields such as 'epochs: 5' in it, or start from `nephros recipes NAME`."
        )
    _known(values, "", where)
    try:
        parsed = parser().parse_object(values, defaults=False)
    except Exception as error:
        raise UserError(f"{where}: {tidy(str(error))}") from None
    return overlay(Recipe(), parsed)


def _known(values: dict[Any, Any], prefix: str, where: str) -> None:
    names = keys()
    for key, value in values.items():
        dotted = f"{prefix}{key}"
        group = [name for name in names if name.startswith(f"{dotted}.")]
        if dotted == "amp" and value is False:  # YAML reads a bare off as false
            values[key] = "off"
        elif value is None:
            raise UserError(f"{where}: '{dotted}' has no value: write one, or leave the line out.")
        elif group and isinstance(value, dict):
            _known(value, f"{dotted}.", where)
        elif group or dotted not in names:
            what = f"'{dotted}' must hold fields such as '{group[0]}'" if group else f"there is no field '{dotted}'"
            raise UserError(f"{where}: {what}.{'' if group else did_you_mean(dotted, names)}")


def tidy(message: str) -> str:
    """Return one of the parser's messages as a sentence in plain words."""
    found = re.search(r'Parser key "([\w.]+)":\s*(.*?) Got value:(.*)$', " ".join(message.split()))
    if not found:
        return " ".join(message.split()).rstrip(".") + "."
    key, expected, value = (part.strip() for part in found.groups())
    value = value or "empty"
    options = re.search(r"Literal\[(.*?)\]", expected)
    kinds = {"int": "a whole number", "float": "a number", "bool": "true or false", "tuple": "a list such as [1, 2]"}
    kind = next((words for name, words in kinds.items() if f"'{name}'" in expected), "another kind of value")
    need = f"one of {options[1]}" if options else kind
    return f"--{key} is {value}, but it must be {need}."


def read(path: Path) -> Recipe:
    """Return the recipe in a YAML file; UserError, naming the file, when it can't be read as one."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not YAML text"
        raise UserError(
            f"The recipe {path} can't be read ({reason}): name a YAML file or one of `nephros recipes`."
        ) from None
    return from_mapping(values, str(path))


def find(name: str) -> Recipe:
    """Return the recipe of that name, or in that YAML file; UserError with the nearest name when there is neither."""
    if name in RECIPES:
        return RECIPES[name]
    path = Path(name).expanduser()
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        return read(path)
    raise UserError(f"There is no recipe '{name}'.{did_you_mean(name, RECIPES)} `nephros recipes` lists them.")
