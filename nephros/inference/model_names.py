"""Models by name: the networks of the recipes, and which of them come with trained weights."""

from __future__ import annotations

import fnmatch
import functools

from nephros.inference.bundled import DEFAULT_MODEL, bundled_file, bundled_names
from nephros.inference.card_json import card_from_json
from nephros.inference.model_card import ModelCard
from nephros.presets import NETWORK_RECIPES

BUNDLED = "bundled"
"""Another name of the default model, beside those of `pretrained_names`."""


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Return the names that `nephros.create_model` and `nephros.train` take, without the classical baselines.

    Args:
        pattern: names to return, where ``*`` stands for any text and ``?`` for any character, such as ``"nephros*"``.
        pretrained: only models with trained weights, which `nephros.load_classifier` and
            `nephros.create_model(NAME, pretrained=True)` take.
    """
    names = pretrained_names() if pretrained else NETWORK_RECIPES
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]


def pretrained_names() -> tuple[str, ...]:
    """Return the names of the bundled models, and recipes of the same networks, for which their weights serve as well."""
    return tuple(_bundled_by_name())


def bundled_model_name(name: str) -> str | None:
    """Return the bundled model that ``bundled`` or one of `pretrained_names` stands for; None for any other name."""
    return DEFAULT_MODEL if name == BUNDLED else _bundled_by_name().get(name)


def bundled_card(model: str = DEFAULT_MODEL) -> ModelCard:
    """Return the card of a bundled model; FileError if it is missing or damaged."""
    file = bundled_file("card.json", model)
    return card_from_json(file.read_text(encoding="utf-8"), file)


@functools.cache
def _bundled_by_name() -> dict[str, str]:
    models = {name: NETWORK_RECIPES[bundled_card(name)["recipe"]].model for name in bundled_names()}
    by_name = {name: name for name in models}
    for recipe_name, recipe in NETWORK_RECIPES.items():
        for name, model in models.items():
            if recipe.model == model:
                by_name.setdefault(recipe_name, name)
    return by_name
