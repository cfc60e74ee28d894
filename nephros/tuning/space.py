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
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nephros.errors import UserError, did_you_mean
from nephros.recipe import Recipe
from nephros.recipe_files import from_mapping, keys

OWNED = {
    "epochs": "Hyperband's own: set --max-epochs",
    "metric": "the study's own: set --metric",
    "name": "a name, not a setting",
    "source": "a note, not a setting",
}
"""Fields that can't be searched, and why."""


@dataclass(frozen=True)
class Dimension:
    """One searched field."""

    key: str
    """Dotted name of the recipe's field."""
    kind: typing.Literal["float", "int", "categorical"]
    low: float = 0.0
    high: float = 0.0
    """Both ends belong to the range."""
    log: bool = False
    """Whether the logarithm is drawn evenly."""
    choices: tuple[Any, ...] = ()
    when: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Earlier dimensions and the values of each at which this one is active; elsewhere the recipe's own value holds."""

    def active(self, params: Mapping[str, Any]) -> bool:
        """Return whether it takes part, given the values of the dimensions before it."""
        return all(key in params and params[key] in values for key, values in self.when.items())

    def to_dict(self) -> Any:
        """Return it as a space file writes it."""
        if self.kind == "categorical":
            plain: dict[str, Any] = {"choices": _lists(self.choices)}
        else:
            plain = {"low": self.low, "high": self.high, **({"log": True} if self.log else {})}
        return plain | ({"when": {key: _lists(values) for key, values in self.when.items()}} if self.when else {})


def to_dict(space: tuple[Dimension, ...]) -> dict[str, Any]:
    """Return the space as a space file writes it."""
    return {dimension.key: dimension.to_dict() for dimension in space}


def read(path: Path, base: Recipe) -> tuple[Dimension, ...]:
    """Return the space in a YAML file, checked against the recipe that it is laid over; UserError, naming the file."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not YAML text"
        raise UserError(f"The space {path} can't be read ({reason}): `nephros tune --help` shows one.") from None
    return parse(values, base, str(path))


def parse(values: Any, base: Recipe, where: str) -> tuple[Dimension, ...]:
    """Return the space that `values` (dotted field -> range or list of choices) describe.

    Raises UserError, naming `where` and the field, for an unknown field, an empty range, a value of the wrong kind or one
    that the recipe can't take.
    """
    if not isinstance(values, dict) or not values:
        raise UserError(
            f"{where} holds no space: write lines such as 'optimizer.lr: {{low: 0.001, high: 0.1, log: true}}'."
        )
    space: list[Dimension] = []
    for key, value in values.items():
        dimension = _dimension(str(key), value, space, where)
        for extreme in dimension.choices or (dimension.low, dimension.high):
            _lay(base, {dimension.key: extreme}, f"{where}: '{dimension.key}'", alone=True)
        space.append(dimension)
    return tuple(space)


def laid_over(base: Recipe, params: Mapping[str, Any]) -> Recipe:
    """Return `base` with the values of `params` (dotted field -> value); UserError when they can't go together."""
    return _lay(base, params, "This configuration")


def _lay(base: Recipe, params: Mapping[str, Any], where: str, alone: bool = False) -> Recipe:
    values = base.to_dict()
    for key, value in params.items():
        group, _, name = key.partition(".")
        if name:
            values[group][name] = value
        else:
            values[group] = value
    if alone and "optimizer.nesterov" not in params:
        # Whether momentum and nesterov go together is known only once both are drawn.
        values["optimizer"]["nesterov"] = False
    return from_mapping(values, where)


def _dimension(key: str, value: Any, before: list[Dimension], where: str) -> Dimension:
    if key in OWNED:
        raise UserError(f"{where}: '{key}' can't be searched, as it is {OWNED[key]}.")
    if key not in keys():
        raise UserError(f"{where}: there is no field '{key}'.{did_you_mean(key, keys())}")
    if isinstance(value, list):
        value = {"choices": value}
    fields = ("low", "high", "log", "choices", "when")
    if not isinstance(value, dict) or not set(value) <= set(fields) or ("choices" in value) == ("low" in value):
        raise UserError(
            f"{where}: '{key}' must be a list of choices or a range such as {{low: 1, high: 9}}, with log and when as needed."
        )
    when = _conditions(key, value.get("when", {}), before, where)
    if "choices" in value:
        return _categorical(key, value, when, where)
    return _range(key, value, when, where)


def _categorical(key: str, value: dict[str, Any], when: dict[str, tuple[Any, ...]], where: str) -> Dimension:
    choices = value["choices"]
    if set(value) - {"choices", "when"}:
        raise UserError(f"{where}: '{key}' has choices, so low, high and log mean nothing: leave them out.")
    if not isinstance(choices, list) or not choices:
        raise UserError(f"{where}: '{key}' has no choices: list at least one value.")
    texts = [json.dumps(choice) for choice in choices]
    if len(set(texts)) < len(texts):
        raise UserError(f"{where}: '{key}' lists a choice twice: list each value once.")
    return Dimension(key, "categorical", choices=tuple(choices), when=when)


def _range(key: str, value: dict[str, Any], when: dict[str, tuple[Any, ...]], where: str) -> Dimension:
    kind = _kind(key)
    low: Any = value["low"]
    high: Any = value.get("high")
    log = value.get("log", False)
    if kind is None:
        raise UserError(f"{where}: '{key}' has no range, as it is not a number: list its choices.")
    for name, end in (("low", low), ("high", high)):
        if isinstance(end, bool) or not isinstance(end, int | float) or (kind == "int" and not isinstance(end, int)):
            need = "a whole number" if kind == "int" else "a number (write 0.001 or 1.0e-3)"
            raise UserError(f"{where}: '{key}' has {name} {end}, but it must be {need}.")
    if not isinstance(log, bool):
        raise UserError(f"{where}: '{key}' has log {log}, but it must be true or false.")
    if not low < high:
        raise UserError(f"{where}: '{key}' has an empty range, {low} to {high}: low must be below high.")
    if log and low <= 0:
        raise UserError(f"{where}: '{key}' is drawn on a log scale, so low must be above 0, and it is {low}.")
    number = int if kind == "int" else float
    return Dimension(key, kind, number(low), number(high), log=log, when=when)


def _conditions(key: str, value: Any, before: list[Dimension], where: str) -> dict[str, tuple[Any, ...]]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: '{key}' has when {value}, but it must be such as {{optimizer.name: [sgd]}}.")
    known = {dimension.key: dimension for dimension in before}
    found = {}
    for other, wanted in value.items():
        wanted = wanted if isinstance(wanted, list) else [wanted]
        if other not in known:
            raise UserError(f"{where}: '{key}' depends on '{other}', which must stand above it in the space.")
        strange = [item for item in wanted if known[other].choices and item not in known[other].choices]
        if not known[other].choices or strange:
            options = ", ".join(map(str, known[other].choices)) or "choices, and it has a range"
            raise UserError(f"{where}: '{key}' depends on '{other}' being {wanted}, but it can be: {options}.")
        found[str(other)] = tuple(wanted)
    return found


def _kind(key: str) -> typing.Literal["float", "int"] | None:
    """Return what kind of number a field holds, or None when it is not one."""
    group, _, name = key.partition(".")
    holder: Any = type(getattr(Recipe(), group)) if name else Recipe
    hint = typing.get_type_hints(holder)[name or group]
    return "int" if hint is int else "float" if hint is float else None


def _lists(values: tuple[Any, ...]) -> list[Any]:
    return [list(value) if isinstance(value, tuple) else value for value in values]


assert set(OWNED) <= {item.name for item in dataclasses.fields(Recipe)}
