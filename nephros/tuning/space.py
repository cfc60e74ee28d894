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

from nephros.errors import UserError, did_you_mean
from nephros.recipe import Recipe
from nephros.recipe_io import keys
from nephros.tuning.dimension import Dimension, laid_over, number_kind, typed
from nephros.tuning.together import check_together

__all__ = ["OWNED", "Dimension", "laid_over", "parse", "read", "to_dict"]

OWNED = {
    "classic": "a classical baseline's, which tries its combinations by itself",
    "epochs": "Hyperband's own: set --max-epochs",
    "metric": "the study's own: set --metric",
    "name": "a name, not a setting",
    "source": "a note, not a setting",
    "teacher_share": "for networks that learn from finished runs, which a study has not",
    "views": "for the finished run; a study judges epochs, on the image alone",
}
"""Fields and groups that can't be searched, and why."""


def to_dict(space: tuple[Dimension, ...]) -> dict[str, Any]:
    """Return the space as a space file writes it."""
    return {dimension.key: dimension.to_dict() for dimension in space}


class _Twice(yaml.YAMLError):
    """A key that stands twice in one mapping."""


class _Loader(yaml.SafeLoader):
    """YAML as everywhere else, but a key that stands twice is an error: the first one would be lost unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [name for i, name in enumerate(names) if name in names[:i]]
        if twice:
            raise _Twice(twice[0])
        return super().construct_mapping(node, deep)


def read(path: Path, base: Recipe) -> tuple[Dimension, ...]:
    """Return the space in a YAML file, checked against the recipe that it is laid over; UserError, naming the file."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except _Twice as error:
        raise UserError(f"{path}: '{error}' stands there twice: keep one of the two.") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        # ValueError: no UTF-8, or a date such as 2020-13-45.
        reason = error.strerror if isinstance(error, OSError) else "it is not YAML text"
        raise UserError(f"The space {path} can't be read ({reason}): `nephros tune --help` shows one.") from None
    return parse(values, base, str(path))


def parse(values: Any, base: Recipe, where: str) -> tuple[Dimension, ...]:
    """Return the space that `values` (dotted field -> range or list of choices) describe.

    Raises UserError, naming `where` and the field, for an unknown field, an empty range, a value of the wrong kind, one
    that the recipe can't take, and one that goes together with nothing else in the space and the recipe.
    """
    if not isinstance(values, dict) or not values:
        raise UserError(
            f"{where} holds no space: write lines such as 'optimizer.lr: {{low: 0.001, high: 0.1, log: true}}'."
        )
    space: list[Dimension] = []
    for key, value in values.items():
        space.append(_dimension(str(key), value, space, where))
    check_together(space, base, where)
    return tuple(space)


def _dimension(key: str, value: Any, before: list[Dimension], where: str) -> Dimension:
    owner = OWNED.get(key.partition(".")[0])
    if owner:
        raise UserError(f"{where}: '{key}' can't be searched, as it is {owner}.")
    _check_field(key, where)
    if isinstance(value, list):
        value = {"choices": value}
    fields = {"low", "high", "log", "choices", "when"}
    if (
        not isinstance(value, dict)
        or not set(value) <= fields
        or not ("choices" in value or {"low", "high"} <= set(value))
    ):
        raise UserError(
            f"{where}: '{key}' must be a list of choices or a range such as {{low: 1, high: 9}}, with log and when as needed."
        )
    when = _conditions(key, value.get("when", {}), before, where)
    if "choices" in value:
        return _categorical(key, value, when, where)
    return _range(key, value, when, where)


def _check_field(key: str, where: str) -> None:
    inner = [name for name in keys() if name.startswith(f"{key}.")]
    if inner:
        raise UserError(f"{where}: '{key}' is a group of fields: write each with its dot, such as '{inner[0]}'.")
    if key not in keys():
        raise UserError(f"{where}: there is no field '{key}'.{did_you_mean(key, keys())}")


def _categorical(key: str, value: dict[str, Any], when: dict[str, tuple[Any, ...]], where: str) -> Dimension:
    if set(value) - {"choices", "when"}:
        raise UserError(f"{where}: '{key}' has choices, so low, high and log mean nothing: leave them out.")
    if not isinstance(value["choices"], list) or not value["choices"]:
        raise UserError(f"{where}: '{key}' has no choices: list at least one value.")
    choices = [typed(key, choice, where, f"'{key}' has the choice") for choice in value["choices"]]
    texts = [json.dumps(choice) for choice in choices]
    twice = [text for i, text in enumerate(texts) if text in texts[:i]]
    if twice:
        raise UserError(f"{where}: '{key}' lists the choice {twice[0]} twice: list each value once.")
    return Dimension(key, "categorical", choices=tuple(choices), when=when)


def _range(key: str, value: dict[str, Any], when: dict[str, tuple[Any, ...]], where: str) -> Dimension:
    kind = number_kind(key)
    if kind is None:
        raise UserError(f"{where}: '{key}' has no range, as it is not a number: list its choices.")
    low, high = (typed(key, value[end], where, f"'{key}' has {end}") for end in ("low", "high"))
    log = value.get("log", False)
    if not isinstance(log, bool):
        raise UserError(f"{where}: '{key}' has log {log}, but it must be true or false.")
    if not low < high:
        raise UserError(f"{where}: '{key}' has an empty range, {low} to {high}: low must be below high.")
    if log and low <= 0:
        raise UserError(f"{where}: '{key}' is drawn on a log scale, so low must be above 0, and it is {low}.")
    return Dimension(key, kind, low, high, log=log, when=when)


def _conditions(key: str, value: Any, before: list[Dimension], where: str) -> dict[str, tuple[Any, ...]]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: '{key}' has when {value}, but it must be such as {{optimizer.name: [sgd]}}.")
    known = {dimension.key: dimension for dimension in before}
    found = {}
    for other, given in value.items():
        _check_field(str(other), f"{where}: '{key}' has a when")
        wanted = given if isinstance(given, list) else [given]
        if other not in known:
            raise UserError(f"{where}: '{key}' depends on '{other}', which must stand above it in the space.")
        choices = known[other].choices
        if not choices:
            raise UserError(
                f"{where}: '{key}' depends on '{other}', which has a range: only choices can be depended on."
            )
        if not wanted:
            raise UserError(f"{where}: '{key}' depends on '{other}' being nothing: list at least one of its choices.")
        found[str(other)] = tuple(_wanted(key, str(other), item, choices, where) for item in wanted)
    return found


def _wanted(key: str, other: str, item: Any, choices: tuple[Any, ...], where: str) -> Any:
    try:
        value = typed(other, item, where, "")
    except UserError:
        value = None
    if value is None or value not in choices:
        options = ", ".join(map(str, choices))
        raise UserError(f"{where}: '{key}' depends on '{other}' being {item}, but its choices are {options}.")
    return value


assert set(OWNED) <= {item.name for item in dataclasses.fields(Recipe)}
