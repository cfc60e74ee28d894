"""Values of a space that no combination makes a recipe of, found before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nephros.errors import NephrosError
from nephros.recipe import Recipe
from nephros.recipe_io import apply_overrides
from nephros.tuning.dimension import Dimension, to_nested

_INTERDEPENDENT_FIELDS = (
    ("optimizer.name", "optimizer.momentum", "optimizer.nesterov"),
    ("schedule.name", "schedule.milestones", "schedule.step_epochs"),
)
"""Fields that a recipe takes only in some combinations."""


def check_combinations(space: list[Dimension], base: Recipe, where: str) -> None:
    """Raise UserError for a value that goes together with nothing else in the space and the recipe.

    Combinations that can't be are let be where each of their values has others to go with: they fail when drawn.
    """
    for group in _INTERDEPENDENT_FIELDS:
        _check_group(space, group, base, where)


def _check_group(space: list[Dimension], group: tuple[str, ...], base: Recipe, where: str) -> None:
    untested = [(d.key, value) for d in space if d.key in group for value in d.extremes]
    reasons: list[tuple[dict[str, Any], str]] = []
    for params in _combinations(_with_parents(space, group)):
        if not untested:
            return
        try:
            apply_overrides(base, to_nested(base, {key: _to_tuple(value) for key, value in params.items()}))
        except NephrosError as error:
            reasons.append((params, str(error)))
        else:
            untested = [(key, value) for key, value in untested if not (key in params and params[key] == value)]
    for key, value in untested:
        causes = [reason for params, reason in reasons if key in params and params[key] == value]
        fallback = "what it depends on never comes together."
        raise NephrosError(
            f"{where}: '{key}' can't be {value} with what else the space and the recipe hold: {(causes or [fallback])[0]}"
        )


def _with_parents(space: list[Dimension], group: tuple[str, ...]) -> list[Dimension]:
    required = set(group)
    for dimension in reversed(space):
        if dimension.key in required:
            required |= set(dimension.when)
    return [dimension for dimension in space if dimension.key in required]


def _combinations(dimensions: list[Dimension], params: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Yield every combination of the extremes of those that are active in it."""
    params = params or {}
    if not dimensions:
        yield params
        return
    first, *rest = dimensions
    for choice in [{first.key: value} for value in first.extremes] if first.is_active(params) else [{}]:
        yield from _combinations(rest, params | choice)


def _to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
