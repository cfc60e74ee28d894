"""Recipes from YAML files and from flags, both parsed by one parser that is built from the dataclass."""

from __future__ import annotations

import dataclasses
import functools
import re
from argparse import SUPPRESS
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from nephros.errors import FileError, InvalidArgument, NephrosError, UnknownName, did_you_mean
from nephros.presets import RECIPES
from nephros.reading import file_errors, read_text
from nephros.recipe import Recipe
from nephros.yaml_values import MAX_YAML_BYTES, parse_yaml

set_parsing_settings(docstring_parse_attribute_docstrings=True)

FIELD_SYNONYMS = {
    "batch": "batch_size",
    "batchsize": "batch_size",
    "bs": "batch_size",
    "dropout": "model.dropout",
    "learning_rate": "optimizer.lr",
    "lr": "optimizer.lr",
    "max_epochs": "epochs",
    "momentum": "optimizer.momentum",
    "n_epochs": "epochs",
    "network": "model.network",
    "optimizer": "optimizer.name",
    "random_state": "seed",
    "wd": "optimizer.weight_decay",
    "weight_decay": "optimizer.weight_decay",
}
"""Names that other tools use -> our field."""


@functools.cache
def field_names() -> tuple[str, ...]:
    """Return the dotted names of all recipe fields."""
    recipe, names = Recipe(), []
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        inner_fields = dataclasses.fields(value) if _is_nested(value) else ()
        names += [f"{field.name}.{inner.name}" for inner in inner_fields] or [field.name]
    return tuple(names)


def _is_nested(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


@functools.cache
def recipe_parser() -> ArgumentParser:
    """Return a parser of all recipe fields, for flags and for YAML."""
    parser = ArgumentParser(prog="recipe", exit_on_error=False)
    add_recipe_arguments(parser)
    return parser


def add_recipe_arguments(parser: ArgumentParser) -> None:
    """Add an argument for every recipe field; the groups, which take no value, are left out of the help."""
    parser.add_class_arguments(Recipe)
    groups = {name.partition(".")[0] for name in field_names() if "." in name}
    for action in parser._actions:
        if action.dest in groups:
            action.help = SUPPRESS


def apply_overrides(recipe: Recipe, overrides: Namespace | dict[str, Any]) -> Recipe:
    """Return `recipe` with the fields in `overrides` (nested by name) replaced; InvalidArgument for invalid values."""
    changes: dict[str, Any] = {}
    for key, value in dict(overrides.__dict__ if isinstance(overrides, Namespace) else overrides).items():
        current = getattr(recipe, key)
        if _is_nested(current):
            inner = value.__dict__ if isinstance(value, Namespace) else value
            changes[key] = dataclasses.replace(current, **inner)
        else:
            changes[key] = value
    return dataclasses.replace(recipe, **changes)


def resolve_recipe(recipe: str | Path | Recipe) -> Recipe:
    """Return the recipe of a name or YAML file, or a given one after its types are checked, so that 1 and 1.0 are the same."""
    if isinstance(recipe, Recipe):
        return recipe_from_dict(recipe.to_dict(), "The recipe")
    if not isinstance(recipe, str | Path):
        raise InvalidArgument("recipe", type(recipe).__name__, "a recipe, or the name or YAML file of one")
    return get_recipe(str(recipe))


def override_fields(recipe: Recipe, overrides: Mapping[str, Any], other_names: Sequence[str] = ()) -> Recipe:
    """Return `recipe` with fields replaced; of nested ones the name has two underscores, such as ``optimizer__lr``.

    Raises UnknownName for a name that is not a field, with a suggestion from the fields and `other_names`, and InvalidArgument,
    which names the field, for a value that it can't have.
    """
    nested: dict[str, Any] = {}
    names = {name.replace(".", "__"): name for name in field_names()}
    for key, value in overrides.items():
        if key not in names:
            group = [name for name in names if name.startswith(f"{key}__")]
            synonym = FIELD_SYNONYMS.get(key.lower(), "").replace(".", "__")
            hint = f"Did you mean '{synonym}'?" if synonym else f"It has fields such as '{group[0]}'." if group else ""
            raise UnknownName(
                key, key, () if hint else [*names, *other_names], kind="argument or recipe field", hint=hint
            )
        if value is None:
            raise InvalidArgument(key, value, "a value; leave it out for the recipe's own")
        value = value.item() if isinstance(value, np.generic) else list(value) if isinstance(value, tuple) else value
        outer, _, inner = names[key].partition(".")
        nested = {**nested, outer: {**nested.get(outer, {}), inner: value}} if inner else {**nested, outer: value}
    if not nested:
        return recipe
    try:
        parsed = recipe_parser().parse_object(nested, defaults=False)
    except Exception as error:
        raise parse_error(str(error)) from None
    return apply_overrides(recipe, parsed)


def recipe_from_dict(values: Any, source: str) -> Recipe:
    """Return the recipe of `values`, nested as in YAML; missing fields have their defaults.

    Raises FileError or InvalidArgument, with `source` in the message, for an unknown field or a value of the wrong type.
    """
    if not isinstance(values, dict):
        raise FileError(
            source,
            f"{source} is not a recipe: it must hold fields such as 'epochs: 5', as `nephros.get_recipe(NAME)` does.",
        )
    _check_field_names(values, "", source)
    try:
        parsed = recipe_parser().parse_object(values, defaults=False)
    except Exception as error:
        raise parse_error(str(error), source) from None
    try:
        return apply_overrides(Recipe(), parsed)
    except InvalidArgument as error:
        raise InvalidArgument(error.parameter, error.value, error.expected, hint=error.hint, source=source) from None


def _check_field_names(values: dict[Any, Any], prefix: str, source: str) -> None:
    """Raise FileError for a key that is not a field, and for a field without a value."""
    names = field_names()
    for key, value in values.items():
        dotted = f"{prefix}{key}"
        group = [name for name in names if name.startswith(f"{dotted}.")]
        if dotted == "amp" and value is False:  # YAML reads a bare off as false
            values[key] = "off"
        elif value is None:
            raise FileError(source, f"{source}: '{dotted}' has no value: write one, or leave the line out.")
        elif group and isinstance(value, dict):
            _check_field_names(value, f"{dotted}.", source)
        elif group or dotted not in names:
            problem = f"'{dotted}' must hold fields such as '{group[0]}'" if group else f"there is no field '{dotted}'"
            raise FileError(source, f"{source}: {problem}.{'' if group else did_you_mean(dotted, names)}")


def parse_error(message: str, source: str = "") -> NephrosError:
    """Return the error for a message of jsonargparse, in plain words; `source` names the file that the value is from, if any."""
    text = " ".join(message.split())
    if group := re.search(r'Parser key "(\w+)": Unable to load config \'(.*?)\'', text):
        return _group_error(*group.groups())
    if number := re.search(r'Parser key "([\w.]+)": Exceeds the limit \((\d+) digits\)', text):
        return InvalidArgument(number[1], f"a number of more than {number[2]} digits", "a smaller one", source=source)
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
    """Return the error for a value given to a group of fields, such as ``optimizer``, with the field that takes the value."""
    fields = [name for name in field_names() if name.startswith(f"{group}.")]
    names = {"optimizer": "name", "model": "network", "schedule": "name"}
    field = f"{group}.{names[group]}" if group in names else fields[0]
    return NephrosError(f"`{group}` is a group of fields and takes no value itself: write `{field}` {value}.")


def _prefixed(source: str, sentence: str) -> str:
    return f"{source}: {sentence}" if source else sentence


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in a YAML file; FileError when it can't be read or is not a recipe."""
    with file_errors(path, f"choose a YAML file, or one of {', '.join(RECIPES)}", name=f"The recipe {path}"):
        values = parse_yaml(read_text(path, MAX_YAML_BYTES))
        return recipe_from_dict(values, str(path))


def get_recipe(name: str) -> Recipe:
    """Return the recipe of a name, or in a YAML file; UnknownName when there is neither."""
    if name in RECIPES:
        return RECIPES[name]
    path = Path(name).expanduser()
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        return read_recipe(path)
    raise UnknownName("recipe", name, RECIPES, hint=f"Choose a YAML file, or one of {', '.join(RECIPES)}.")
