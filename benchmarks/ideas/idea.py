"""An idea to try: what it changes of the starting recipe, of its network, or of its training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from benchmarks.ideas.labels import MakeSoftTargets
from nephros.models import build_network
from nephros.models.input_spec import InputSpec
from nephros.recipe import ModelConfig, Recipe
from nephros.recipe_io import apply_overrides
from nephros.training.trainer import Trainer

BuildNetwork = Callable[[ModelConfig, InputSpec], nn.Module]


def _leave_unchanged(_trainer: Trainer) -> None:
    return None


@dataclass(frozen=True)
class Idea:
    """One line of the log."""

    name: str
    group: str
    """shape, symmetry, augmentation, optimiser, average, loss, labels or precision."""
    description: str
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the recipe, by dotted name."""
    build: BuildNetwork = build_network
    patch_trainer: Callable[[Trainer], None] = _leave_unchanged
    """What is changed of a run before it begins."""
    make_soft_targets: MakeSoftTargets | None = None
    """What makes targets to follow beside the labels, as far as the recipe's distillation_weight says."""
    baseline: str = "start"
    """The idea that it is paired with."""
    can_be_screened: bool = True
    """Whether it can be screened on a part of the images; what finished runs teach is of all of them."""

    def recipe(self, start: Recipe) -> Recipe:
        """Return the starting recipe with the idea's settings laid over it."""
        nested: dict[str, Any] = {}
        for key, value in self.settings.items():
            group, _, name = key.rpartition(".")
            (nested.setdefault(group, {}) if group else nested)[name] = value
        return apply_overrides(start, nested)
