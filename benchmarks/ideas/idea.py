"""An idea to try: its changes to the starting recipe, the network, or the training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from benchmarks.ideas.labels import MakeSoftTargets
from nephros.models import build_network
from nephros.models.classifier import InputSpec
from nephros.recipe import ModelConfig, Recipe
from nephros.recipe_io import apply_overrides
from nephros.training.trainer import Trainer

BuildNetwork = Callable[[ModelConfig, InputSpec], nn.Module]


def _leave_unchanged(_trainer: Trainer) -> None:
    return None


@dataclass(frozen=True)
class Idea:
    """An idea to try: a row of the log."""

    name: str
    group: str
    """shape, symmetry, augmentation, optimizer, average, loss, labels, precision or test time."""
    description: str
    settings: dict[str, Any] = field(default_factory=dict)
    """Fields of the recipe to change, by dotted name."""
    build: BuildNetwork = build_network
    patch_trainer: Callable[[Trainer], None] = _leave_unchanged
    """Changes the trainer before it runs."""
    make_soft_targets: MakeSoftTargets | None = None
    """Makes soft targets, whose weight beside the labels is the recipe's `distillation_weight`."""
    baseline: str = "start"
    """Name of the idea that it is compared with, on the same seeds."""
    can_be_screened: bool = True
    """Whether it can be screened on a part of the images; soft targets of finished runs exist for all images only."""

    def recipe(self, start: Recipe) -> Recipe:
        """Return the starting recipe with the idea's settings."""
        nested: dict[str, Any] = {}
        for key, value in self.settings.items():
            group, _, name = key.rpartition(".")
            (nested.setdefault(group, {}) if group else nested)[name] = value
        return apply_overrides(start, nested)
