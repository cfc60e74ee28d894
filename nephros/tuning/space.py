"""What is searched: dotted recipe fields, each with a range or choices, read from a YAML file such as

optimizer.name: [sgd, adamw]
optimizer.lr: {low: 0.001, high: 0.3, log: true}
optimizer.momentum: {low: 0.5, high: 0.99, when: {optimizer.name: [sgd]}}
schedule.patience: {low: 3, high: 6}
model.hidden: [[100, 50], [300, 150]]
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import yaml

from nephros.errors import NephrosError, did_you_mean
from nephros.recipe import Recipe
from nephros.recipe_io import field_names
from nephros.tuning.dimension import Dimension, apply_params, coerce, number_kind
from nephros.tuning.together import check_combinations

__all__ = ["NOT_SEARCHABLE", "Dimension", "apply_params", "parse_space", "read_space", "space_to_dict"]

NOT_SEARCHABLE = {
    "classical": "a classical baseline's, which tries its combinations by itself",
    "epochs": "Hyperband's own: set --max-epochs",
    "metric": "the study's own: set --metric",
    "name": "a name, not a setting",
    "source": "a note, not a setting",
    "distillation_weight": "for networks that learn from finished runs, which a study has not",
    "tta_views": "for the finished run; a study judges epochs, on the image alone",
}
"""Fields and groups that can't be searched, and why."""


def space_to_dict(space: tuple[Dimension, ...]) -> dict[str, Any]:
    """Return the space as a space file writes it."""
    return {dimension.key: dimension.to_dict() for dimension in space}


class _DuplicateKeyError(yaml.YAMLError):
    """A key that stands twice in one mapping."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML as everywhere else, but a key that stands twice is an error: the first one would be lost unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        duplicates = [name for i, name in enumerate(names) if name in names[:i]]
        if duplicates:
            raise _DuplicateKeyError(duplicates[0])
        return super().construct_mapping(node, deep)


def read_space(path: Path, base: Recipe) -> tuple[Dimension, ...]:
    """Return the space in a YAML file, checked against the recipe that it is laid over; UserError, naming the file."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except _DuplicateKeyError as error:
        raise NephrosError(f"{path}: '{error}' stands there twice: keep one of the two.") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        # ValueError: no UTF-8, or a date such as 2020-13-45.
        reason = error.strerror if isinstance(error, OSError) else "it is not YAML text"
        raise NephrosError(f"The space {path} can't be read ({reason}): `nephros tune --help` shows one.") from None
    return parse_space(values, base, str(path))


def parse_space(values: Any, base: Recipe, where: str) -> tuple[Dimension, ...]:
    """Return the space that `values` (dotted field -> range or list of choices) describe.

    Raises UserError, naming `where` and the field, for an unknown field, an empty range, a value of the wrong kind, one
    that the recipe can't take, and one that goes together with nothing else in the space and the recipe.
    """
    if not isinstance(values, dict) or not values:
        raise NephrosError(
            f"{where} holds no space: write lines such as 'optimizer.lr: {{low: 0.001, high: 0.1, log: true}}'."
        )
    space: list[Dimension] = []
    for key, value in values.items():
        space.append(_dimension(str(key), value, space, where))
    check_combinations(space, base, where)
    return tuple(space)


def _dimension(key: str, value: Any, earlier: list[Dimension], where: str) -> Dimension:
    reason = NOT_SEARCHABLE.get(key.partition(".")[0])
    if reason:
        raise NephrosError(f"{where}: '{key}' can't be searched, as it is {reason}.")
    _check_field(key, where)
    if isinstance(value, list):
        value = {"choices": value}
    fields = {"low", "high", "log", "choices", "when"}
    if (
        not isinstance(value, dict)
        or not set(value) <= fields
        or not ("choices" in value or {"low", "high"} <= set(value))
    ):
        raise NephrosError(
            f"{where}: '{key}' must be a list of choices or a range such as {{low: 1, high: 9}}, with log and when as needed."
        )
    when = _conditions(key, value.get("when", {}), earlier, where)
    if "choices" in value:
        return _categorical(key, value, when, where)
    return _range(key, value, when, where)


def _check_field(key: str, where: str) -> None:
    nested_keys = [name for name in field_names() if name.startswith(f"{key}.")]
    if nested_keys:
        raise NephrosError(
            f"{where}: '{key}' is a group of fields: write each with its dot, such as '{nested_keys[0]}'."
        )
    if key not in field_names():
        raise NephrosError(f"{where}: there is no field '{key}'.{did_you_mean(key, field_names())}")


def _categorical(key: str, value: dict[str, Any], when: dict[str, tuple[Any, ...]], where: str) -> Dimension:
    if set(value) - {"choices", "when"}:
        raise NephrosError(f"{where}: '{key}' has choices, so low, high and log mean nothing: leave them out.")
    if not isinstance(value["choices"], list) or not value["choices"]:
        raise NephrosError(f"{where}: '{key}' has no choices: list at least one value.")
    choices = [coerce(key, choice, where, f"'{key}' has the choice") for choice in value["choices"]]
    encoded = [json.dumps(choice) for choice in choices]
    duplicates = [text for i, text in enumerate(encoded) if text in encoded[:i]]
    if duplicates:
        raise NephrosError(f"{where}: '{key}' lists the choice {duplicates[0]} twice: list each value once.")
    return Dimension(key, "categorical", choices=tuple(choices), when=when)


def _range(key: str, value: dict[str, Any], when: dict[str, tuple[Any, ...]], where: str) -> Dimension:
    kind = number_kind(key)
    if kind is None:
        raise NephrosError(f"{where}: '{key}' has no range, as it is not a number: list its choices.")
    low, high = (coerce(key, value[end], where, f"'{key}' has {end}") for end in ("low", "high"))
    log = value.get("log", False)
    if not isinstance(log, bool):
        raise NephrosError(f"{where}: '{key}' has log {log}, but it must be true or false.")
    if not low < high:
        raise NephrosError(f"{where}: '{key}' has an empty range, {low} to {high}: low must be below high.")
    if log and low <= 0:
        raise NephrosError(f"{where}: '{key}' is drawn on a log scale, so low must be above 0, and it is {low}.")
    return Dimension(key, kind, low, high, log=log, when=when)


def _conditions(key: str, value: Any, earlier: list[Dimension], where: str) -> dict[str, tuple[Any, ...]]:
    if not isinstance(value, dict):
        raise NephrosError(f"{where}: '{key}' has when {value}, but it must be such as {{optimizer.name: [sgd]}}.")
    earlier_by_key = {dimension.key: dimension for dimension in earlier}
    conditions = {}
    for other, condition in value.items():
        _check_field(str(other), f"{where}: '{key}' has a when")
        values = condition if isinstance(condition, list) else [condition]
        if other not in earlier_by_key:
            raise NephrosError(f"{where}: '{key}' depends on '{other}', which must stand above it in the space.")
        choices = earlier_by_key[other].choices
        if not choices:
            raise NephrosError(
                f"{where}: '{key}' depends on '{other}', which has a range: only choices can be depended on."
            )
        if not values:
            raise NephrosError(
                f"{where}: '{key}' depends on '{other}' being nothing: list at least one of its choices."
            )
        conditions[str(other)] = tuple(_condition_value(key, str(other), item, choices, where) for item in values)
    return conditions


def _condition_value(key: str, other: str, raw_value: Any, choices: tuple[Any, ...], where: str) -> Any:
    try:
        value = coerce(other, raw_value, where, "")
    except NephrosError:
        value = None
    if value is None or value not in choices:
        options = ", ".join(map(str, choices))
        raise NephrosError(f"{where}: '{key}' depends on '{other}' being {raw_value}, but its choices are {options}.")
    return value


assert set(NOT_SEARCHABLE) <= {item.name for item in dataclasses.fields(Recipe)}
