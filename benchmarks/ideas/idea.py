"""An idea to try: what it changes of the starting recipe, of its network, or of its training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from benchmarks.ideas.labels import Targets
from nephros.models import build
from nephros.models.input_spec import Shape
from nephros.recipe import Recipe
from nephros.recipe_io import overlay
from nephros.recipe_parts import Model
from nephros.training.trainer import Fit

Build = Callable[[Model, Shape], nn.Module]


def _nothing(_fit: Fit) -> None:
    return None


@dataclass(frozen=True)
class Idea:
    """One line of the log."""

    name: str
    group: str
    """shape, symmetry, augmentation, optimiser, average, loss, labels or precision."""
    words: str
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the recipe, by dotted name."""
    build: Build = build
    patch: Callable[[Fit], None] = _nothing
    """What is changed of a run before it begins."""
    targets: Targets | None = None
    """What makes targets to follow beside the labels, as far as the recipe's teacher_share says."""
    against: str = "start"
    """The idea that it is paired with."""
    screened: bool = True
    """Whether it can be screened on a part of the images; what finished runs teach is of all of them."""

    def recipe(self, start: Recipe) -> Recipe:
        """Return the starting recipe with the idea's settings laid over it."""
        nested: dict[str, Any] = {}
        for key, value in self.settings.items():
            group, _, name = key.rpartition(".")
            (nested.setdefault(group, {}) if group else nested)[name] = value
        return overlay(start, nested)
