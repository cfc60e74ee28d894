"""Search spaces: recipe fields by their dotted names, each with a range or a list of choices, from a YAML file such as

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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nephros.errors import InvalidArgument, NephrosError, did_you_mean
from nephros.reading import file_errors, read_text
from nephros.recipe import Recipe
from nephros.recipe_io import apply_overrides, field_names, recipe_from_dict
from nephros.yaml_values import MAX_YAML_BYTES, parse_yaml

NOT_SEARCHABLE = {
    "classical": "a classical baseline's, which tries its own combinations",
    "distillation_weight": "for networks with teachers, which a study doesn't have",
    "epochs": "Hyperband's: set `max_epochs`",
    "knn": "a classical baseline's, which tries its own combinations",
    "metric": "the study's: set `metric`",
    "name": "a name, not a setting",
    "source": "a note, not a setting",
    "svm": "a classical baseline's, which tries its own combinations",
    "tta_views": "for finished runs: a study evaluates without test-time augmentation",
}
"""Fields and groups that can't be searched, and why."""
_COMPANION_FIELDS: dict[str, dict[str, Any]] = {
    "optimizer.nesterov": {"optimizer.momentum": 0.9},
    "schedule.name": {"schedule.milestones": [0.5]},
}
"""What some fields need beside them before any of their values can be checked alone."""
_INTERDEPENDENT_FIELDS = (
    ("optimizer.name", "optimizer.momentum", "optimizer.nesterov"),
    ("schedule.name", "schedule.milestones", "schedule.step_epochs"),
)
"""Fields of which a recipe accepts only some combinations of values."""


class SpaceError(NephrosError, ValueError):
    """A search space that can't be used."""

    def __init__(self, source: str, key: str, problem: str) -> None:
        """Take the space's name (its file, say), the field at fault ("" for the whole space), and the rest of the sentence."""
        super().__init__(source, key, problem)
        self.source, self.key, self.problem = source, key, problem

    def __str__(self) -> str:
        return f"{self.source}: '{self.key}' {self.problem}" if self.key else f"{self.source} {self.problem}"


@dataclass(frozen=True)
class Dimension:
    """One searched field."""

    key: str
    """Dotted name of the recipe field."""
    kind: typing.Literal["float", "int", "categorical"]
    low: float = 0.0
    high: float = 0.0
    """Both ends belong to the range."""
    log: bool = False
    """Whether to sample uniformly on a log scale."""
    choices: tuple[Any, ...] = ()
    """Values as Recipe.to_dict writes them: lists where the recipe holds tuples."""
    when: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Earlier dimensions, and the values of each at which this one is active; elsewhere the recipe's own value holds."""

    @property
    def extremes(self) -> tuple[Any, ...]:
        """All choices, or both ends of the range."""
        return self.choices or (self.low, self.high)

    def is_active(self, params: Mapping[str, Any]) -> bool:
        """Return whether the field is searched, given the values of the dimensions before it."""
        return all(key in params and params[key] in values for key, values in self.when.items())

    def allows(self, value: Any) -> bool:
        """Return whether a value is one of the choices, or within the range."""
        if self.kind == "categorical":
            return value in self.choices
        tolerance = 1e-9 * max(abs(self.low), abs(self.high))
        is_number = isinstance(value, int if self.kind == "int" else int | float)
        return is_number and self.low - tolerance <= value <= self.high + tolerance

    def to_dict(self) -> Any:
        """Return the dimension as a space file writes it."""
        if self.kind == "categorical":
            mapping: dict[str, Any] = {"choices": list(self.choices)}
        else:
            mapping = {"low": self.low, "high": self.high, **({"log": True} if self.log else {})}
        return mapping | ({"when": {key: list(values) for key, values in self.when.items()}} if self.when else {})


def space_to_dict(space: tuple[Dimension, ...]) -> dict[str, Any]:
    """Return the space as a space file writes it."""
    return {dimension.key: dimension.to_dict() for dimension in space}


def apply_params(base: Recipe, params: Mapping[str, Any]) -> Recipe:
    """Return `base` with the values of `params` (dotted field -> value); NephrosError when a recipe can't combine them.

    Nesterov momentum that `base` has is turned off where it would mean nothing: without momentum, or for an optimizer other
    than sgd.
    """
    values = base.to_dict()
    for group, change in _to_nested(base, params).items():
        values[group] = values[group] | change if isinstance(change, dict) else change
    return recipe_from_dict(values, "This configuration")


def _to_nested(base: Recipe, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `apply_params` changes of `base`, nested by name as in a recipe file."""
    changes: dict[str, Any] = {}
    for key, value in params.items():
        group, _, name = key.partition(".")
        if name:
            changes.setdefault(group, {})[name] = value
        else:
            changes[group] = value
    optimizer = changes.get("optimizer", {})
    name, momentum = optimizer.get("name", base.optimizer.name), optimizer.get("momentum", base.optimizer.momentum)
    if base.optimizer.nesterov and not (name == "sgd" and momentum > 0):
        optimizer.setdefault("nesterov", False)
    return changes


def read_space(path: Path, base: Recipe) -> tuple[Dimension, ...]:
    """Return the space in a YAML file, checked against the recipe `base`; FileError or SpaceError, naming the file."""
    with file_errors(path, "name a YAML file of recipe fields with ranges or choices", name=f"The space {path}"):
        return parse_space(parse_yaml(read_text(path, MAX_YAML_BYTES)), base, str(path))


def parse_space(values: Any, base: Recipe, source: str) -> tuple[Dimension, ...]:
    """Return the space that `values` (dotted field -> range or list of choices) describe.

    Raises SpaceError, naming `source` and the field, for an unknown field, an empty range, a value that the field can't
    have, and one that the rest of the space and the recipe `base` rule out.
    """
    if not isinstance(values, dict) or not values:
        example = "optimizer.lr: {low: 0.001, high: 0.1, log: true}"
        raise SpaceError(source, "", f"holds no search space: write lines such as '{example}'.")
    space: list[Dimension] = []
    for key, value in values.items():
        space.append(_dimension(str(key), value, space, source))
    _check_combinations(space, base, source)
    return tuple(space)


def _dimension(key: str, value: Any, earlier: list[Dimension], source: str) -> Dimension:
    reason = NOT_SEARCHABLE.get(key.partition(".")[0])
    if reason:
        raise SpaceError(source, key, f"can't be searched, as it is {reason}.")
    if problem := _field_problem(key):
        raise SpaceError(source, key, problem)
    if isinstance(value, list):
        value = {"choices": value}
    known_keys = {"low", "high", "log", "choices", "when"}
    if (
        not isinstance(value, dict)
        or not set(value) <= known_keys
        or not ("choices" in value or {"low", "high"} <= set(value))
    ):
        expected = "a list of choices or a range such as {low: 1, high: 9}, with log and when as needed"
        raise SpaceError(source, key, f"must be {expected}.")
    when = _conditions(key, value.get("when", {}), earlier, source)
    if "choices" in value:
        return _categorical(key, value, when, source)
    return _range(key, value, when, source)


def _field_problem(key: str) -> str:
    """Return the rest of a sentence that says why `key` is not a field of a recipe; "" when it is one."""
    nested_keys = [name for name in field_names() if name.startswith(f"{key}.")]
    if nested_keys:
        return f"is a group of fields: write each with its dot, such as '{nested_keys[0]}'."
    return "" if key in field_names() else f"is not a field of a recipe.{did_you_mean(key, field_names())}"


def _categorical(key: str, value: dict[str, Any], when: dict[str, tuple[Any, ...]], source: str) -> Dimension:
    if set(value) - {"choices", "when"}:
        raise SpaceError(source, key, "has choices, so low, high and log mean nothing: leave them out.")
    if not isinstance(value["choices"], list) or not value["choices"]:
        raise SpaceError(source, key, "has no choices: list at least one value.")
    choices = [_coerce(key, choice, source, "has the choice") for choice in value["choices"]]
    encoded = [json.dumps(choice) for choice in choices]
    duplicates = [text for i, text in enumerate(encoded) if text in encoded[:i]]
    if duplicates:
        raise SpaceError(source, key, f"lists the choice {duplicates[0]} twice: list each value once.")
    return Dimension(key, "categorical", choices=tuple(choices), when=when)


def _range(key: str, value: dict[str, Any], when: dict[str, tuple[Any, ...]], source: str) -> Dimension:
    kind = _number_kind(key)
    if kind is None:
        raise SpaceError(source, key, "is not a number and has no range: list its choices.")
    low, high = (_coerce(key, value[end], source, f"has {end}") for end in ("low", "high"))
    log = value.get("log", False)
    if not isinstance(log, bool):
        raise SpaceError(source, key, f"has log {log}, but it must be true or false.")
    if not low < high:
        raise SpaceError(source, key, f"has an empty range, {low} to {high}: low must be below high.")
    if log and low <= 0:
        raise SpaceError(source, key, f"has low {low}, but it must be above 0 on a log scale.")
    return Dimension(key, kind, low, high, log=log, when=when)


def _number_kind(key: str) -> typing.Literal["float", "int"] | None:
    """Return what kind of number a field holds, or None when it isn't one."""
    group, _, name = key.partition(".")
    owner: Any = type(getattr(Recipe(), group)) if name else Recipe
    hint = typing.get_type_hints(owner)[name or group]
    return "int" if hint is int else "float" if hint is float else None


def _coerce(key: str, value: Any, source: str, subject: str) -> Any:
    """Return a field's value as Recipe.to_dict writes it: the text 1e-3 becomes the number, a bare off of amp 'off'.

    Raises SpaceError ("FIELD `subject` VALUE, but it must be ...") for a value that no recipe can hold.
    """
    if value is None:
        raise SpaceError(source, key, f"{subject} null: write a value in its place.")
    if key == "model.network":
        from nephros.models import MODELS

        if value not in list(MODELS):
            raise SpaceError(source, key, f"{subject} {value}, but it must be one of {', '.join(MODELS)}.")
    try:
        recipe = recipe_from_dict(_to_nested(Recipe(), _COMPANION_FIELDS.get(key, {}) | {key: value}), "")
    except InvalidArgument as error:
        rejected = list(error.value) if isinstance(error.value, tuple) else error.value
        raise SpaceError(source, key, f"{subject} {rejected}, but it must be {error.expected}.") from None
    except NephrosError as error:
        raise SpaceError(source, key, f"{subject} {value}, which a recipe can't have: {error}") from None
    group, _, name = key.partition(".")
    field_values = recipe.to_dict()[group]
    return field_values[name] if name else field_values


def _conditions(key: str, value: Any, earlier: list[Dimension], source: str) -> dict[str, tuple[Any, ...]]:
    if not isinstance(value, dict):
        raise SpaceError(source, key, f"has when {value}, but it must be such as {{optimizer.name: [sgd]}}.")
    earlier_by_key = {dimension.key: dimension for dimension in earlier}
    conditions = {}
    for other, condition in value.items():
        if problem := _field_problem(str(other)):
            raise SpaceError(source, key, f"depends on '{other}', which {problem}")
        values = condition if isinstance(condition, list) else [condition]
        if other not in earlier_by_key:
            raise SpaceError(source, key, f"depends on '{other}', which must stand above it in the space.")
        choices = earlier_by_key[other].choices
        if not choices:
            raise SpaceError(source, key, f"depends on '{other}', which has a range: a condition needs choices.")
        if not values:
            raise SpaceError(source, key, f"depends on '{other}' being nothing: list at least one of its choices.")
        conditions[str(other)] = tuple(_condition_value(key, str(other), item, choices, source) for item in values)
    return conditions


def _condition_value(key: str, other: str, raw_value: Any, choices: tuple[Any, ...], source: str) -> Any:
    try:
        value = _coerce(other, raw_value, source, "")
    except SpaceError:
        value = None
    if value is None or value not in choices:
        options = ", ".join(map(str, choices))
        raise SpaceError(source, key, f"depends on '{other}' being {raw_value}, but its choices are {options}.")
    return value


def _check_combinations(space: list[Dimension], base: Recipe, source: str) -> None:
    """Raise SpaceError for a value that no combination of the rest of the space and the recipe accepts.

    Impossible combinations are fine where each of their values has others to go with: they fail when sampled.
    """
    for group in _INTERDEPENDENT_FIELDS:
        _check_group(space, group, base, source)


def _check_group(space: list[Dimension], group: tuple[str, ...], base: Recipe, source: str) -> None:
    untested = [(d.key, value) for d in space if d.key in group for value in d.extremes]
    failures: list[tuple[dict[str, Any], str]] = []
    for params in _combinations(_with_parents(space, group)):
        if not untested:
            return
        try:
            apply_overrides(base, _to_nested(base, {key: _to_tuple(value) for key, value in params.items()}))
        except NephrosError as error:
            failures.append((params, str(error)))
        else:
            untested = [(key, value) for key, value in untested if not (key in params and params[key] == value)]
    for key, value in untested:
        causes = [message for params, message in failures if key in params and params[key] == value]
        cause = causes[0] if causes else "the conditions on it never hold together."
        raise SpaceError(source, key, f"can't be {value} with the rest of the space and the recipe: {cause}")


def _with_parents(space: list[Dimension], group: tuple[str, ...]) -> list[Dimension]:
    required = set(group)
    for dimension in reversed(space):
        if dimension.key in required:
            required |= set(dimension.when)
    return [dimension for dimension in space if dimension.key in required]


def _combinations(dimensions: list[Dimension], params: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Yield every combination of the extremes of the dimensions that are active in it."""
    params = params or {}
    if not dimensions:
        yield params
        return
    first, *rest = dimensions
    for choice in [{first.key: value} for value in first.extremes] if first.is_active(params) else [{}]:
        yield from _combinations(rest, params | choice)


def _to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


assert set(NOT_SEARCHABLE) <= {item.name for item in dataclasses.fields(Recipe)}
