"""Small data: enough optimizer steps for a recipe that was made for many images, and warnings where too few are left."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from typing import Any

import numpy as np

from nephros.data.dataset import Dataset
from nephros.data.split import SPLIT_ADJECTIVES
from nephros.presets import RECIPES
from nephros.recipe import Recipe
from nephros.text_tables import list_names, pluralize

MIN_STEPS = 150
"""Optimizer steps below which a network has hardly left its initial weights."""
TARGET_STEPS = 200
"""Optimizer steps that an adapted recipe takes at least."""
ADAPTABLE_FIELDS = ("passes_per_epoch", "batch_size")
"""Fields of a recipe that small data may change."""
MIN_IMAGES_PER_CLASS = {"train": 10, "val": 5}
"""Images of a class below which learning it, or measuring its recall, is left to chance."""
_MIN_BATCH_SIZE, _MIN_BATCHES_PER_PASS = 16, 4


def optimizer_steps(recipe: Recipe, n_images: int) -> int:
    """Return the number of optimizer steps that a network's training takes on `n_images` training images."""
    return recipe.epochs * math.ceil(recipe.passes_per_epoch * n_images / recipe.batch_size)


def adapt_recipe(recipe: Recipe, n_images: int, adaptable: Collection[str]) -> tuple[Recipe, str]:
    """Return the recipe with enough optimizer steps for `n_images` training images, and a sentence on it.

    A recipe of fewer than MIN_STEPS steps gets smaller batches, at least four of them in a pass, and then as many passes per
    epoch as make TARGET_STEPS; only fields named in `adaptable` change. The sentence is empty where the steps suffice.
    """
    steps = optimizer_steps(recipe, n_images)
    if recipe.is_classical or steps >= MIN_STEPS:
        return recipe, ""
    before = f"{n_images:,} training images make only {pluralize(steps, 'optimizer step')}"
    changes: dict[str, Any] = {}
    if "batch_size" in adaptable:
        power_of_two = 2 ** int(math.log2(max(1, n_images // _MIN_BATCHES_PER_PASS)))
        batch_size = min(recipe.batch_size, max(_MIN_BATCH_SIZE, power_of_two))
        changes |= {"batch_size": batch_size} if batch_size != recipe.batch_size else {}
    if "passes_per_epoch" in adaptable:
        batch_size = changes.get("batch_size", recipe.batch_size)
        passes = math.ceil(TARGET_STEPS * batch_size / (recipe.epochs * n_images))
        changes |= {"passes_per_epoch": passes} if passes > recipe.passes_per_epoch else {}
    adapted = dataclasses.replace(recipe, **changes)
    if not changes:
        return recipe, f"{before}: raise `epochs` or `passes_per_epoch`, or lower `batch_size`."
    values = " and ".join(f"`{name}` is {value} instead of {getattr(recipe, name)}" for name, value in changes.items())
    after = optimizer_steps(adapted, n_images)
    short = "" if after >= MIN_STEPS else ", which is still few: raise `epochs`"
    return adapted, f"{before}, so {values}, for {after:,} steps{short}."


def preset_values(recipe: Recipe, n_images: int) -> dict[str, Any]:
    """Return the preset's values of those fields that `adapt_recipe` changed for `n_images` training images, by name."""
    preset = RECIPES.get(recipe.name)
    if preset is None:
        return {}
    changed = [name for name in ADAPTABLE_FIELDS if getattr(preset, name) != getattr(recipe, name)]
    values = {name: getattr(preset, name) for name in changed}
    adapted, _ = adapt_recipe(dataclasses.replace(recipe, **values), n_images, changed)
    return values if adapted == recipe else {}


def few_images_warnings(dataset: Dataset, splits: Collection[str] = ("train", "val")) -> tuple[str, ...]:
    """Return a warning for each of `splits` that has few images of a class; missing classes have their own."""
    warnings = []
    for split in splits:
        minimum = MIN_IMAGES_PER_CLASS[split]
        counts = dataset.split(split).class_counts(dataset.n_classes)
        few = [f"{dataset.class_names[c]} ({counts[c]})" for c in np.flatnonzero((counts > 0) & (counts < minimum))]
        consequence = {"train": "hard to learn from", "val": "too few to measure recall"}[split]
        if few:
            warnings.append(
                f"Fewer than {minimum} {SPLIT_ADJECTIVES[split]} images of {list_names(few)}: {consequence}, so label more."
            )
    return tuple(warnings)
