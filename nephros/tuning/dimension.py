"""One searched field of a recipe, its values as a recipe holds them, and a drawn configuration laid over a recipe."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nephros.errors import InvalidArgument, NephrosError
from nephros.recipe import Recipe
from nephros.recipe_io import recipe_from_dict

_COMPANION_FIELDS: dict[str, dict[str, Any]] = {
    "optimizer.nesterov": {"optimizer.momentum": 0.9},
    "schedule.name": {"schedule.milestones": [0.5]},
}
"""What some fields need beside them before any of their values can be judged alone."""


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
    """Values as Recipe.to_dict writes them: lists where the recipe holds tuples."""
    when: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Earlier dimensions and the values of each at which this one is active; elsewhere the recipe's own value holds."""

    @property
    def extremes(self) -> tuple[Any, ...]:
        """All choices, or both ends of the range."""
        return self.choices or (self.low, self.high)

    def is_active(self, params: Mapping[str, Any]) -> bool:
        """Return whether it takes part, given the values of the dimensions before it."""
        return all(key in params and params[key] in values for key, values in self.when.items())

    def to_dict(self) -> Any:
        """Return it as a space file writes it."""
        if self.kind == "categorical":
            mapping: dict[str, Any] = {"choices": list(self.choices)}
        else:
            mapping = {"low": self.low, "high": self.high, **({"log": True} if self.log else {})}
        return mapping | ({"when": {key: list(values) for key, values in self.when.items()}} if self.when else {})


def apply_params(base: Recipe, params: Mapping[str, Any]) -> Recipe:
    """Return `base` with the values of `params` (dotted field -> value); UserError when they can't go together.

    Where they leave the base's own nesterov without a meaning (another optimiser than sgd, or no momentum), it is off.
    """
    values = base.to_dict()
    for group, change in to_nested(base, params).items():
        values[group] = values[group] | change if isinstance(change, dict) else change
    return recipe_from_dict(values, "This configuration")


def to_nested(base: Recipe, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `apply_params` changes of `base`, nested by name as in a recipe's file."""
    changes: dict[str, Any] = {}
    for key, value in params.items():
        group, _, name = key.partition(".")
        if name:
            changes.setdefault(group, {})[name] = value
        else:
            changes[group] = value
    optimizer_overrides = changes.get("optimizer", {})
    name, momentum = (
        optimizer_overrides.get("name", base.optimizer.name),
        optimizer_overrides.get("momentum", base.optimizer.momentum),
    )
    if base.optimizer.nesterov and not (name == "sgd" and momentum > 0):
        optimizer_overrides.setdefault("nesterov", False)
    return changes


def coerce(key: str, value: Any, where: str, subject: str) -> Any:
    """Return a field's value as Recipe.to_dict writes it: text such as 1e-3 as the number, a bare off of amp as 'off'.

    Raises UserError, which begins with `where` and `subject`, for a value that no recipe can hold.
    """
    if value is None:
        raise NephrosError(f"{where}: {subject} null: write a value in its place.")
    if key == "model.network":
        from nephros.models import MODELS

        if value not in list(MODELS):
            raise NephrosError(f"{where}: {subject} {value}, but it must be one of {', '.join(MODELS)}.")
    try:
        recipe = recipe_from_dict(to_nested(Recipe(), _COMPANION_FIELDS.get(key, {}) | {key: value}), where)
    except InvalidArgument as error:
        raise NephrosError(f"{where}: {subject} {error.value}, but it must be {error.expected}.") from None
    except NephrosError as error:
        message = str(error).removeprefix(f"{where}: ").replace(f"--{key} is", subject)
        raise NephrosError(f"{where}: {message}") from None
    group, _, name = key.partition(".")
    field_values = recipe.to_dict()[group]
    return field_values[name] if name else field_values


def number_kind(key: str) -> typing.Literal["float", "int"] | None:
    """Return what kind of number a field holds, or None when it is not one."""
    group, _, name = key.partition(".")
    owner: Any = type(getattr(Recipe(), group)) if name else Recipe
    hint = typing.get_type_hints(owner)[name or group]
    return "int" if hint is int else "float" if hint is float else None
