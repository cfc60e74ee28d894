"""Models by name: the networks of the recipes, and which of them come with trained weights."""

from __future__ import annotations

import fnmatch
import functools

from nephros.inference.bundled import bundled_file
from nephros.inference.card_json import card_from_json
from nephros.presets import NETWORK_RECIPES

BUNDLED = "bundled"
"""Name of the bundled model, beside those of `pretrained_names`."""


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Return the names that `nephros.create_model` and `nephros.train` take, without the classical baselines.

    Args:
        pattern: names to return, where ``*`` stands for any text and ``?`` for any character, such as ``"nephros*"``.
        pretrained: only models with trained weights, which `nephros.load_classifier` and
            `nephros.create_model(NAME, pretrained=True)` take.
    """
    names = pretrained_names() if pretrained else NETWORK_RECIPES
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]


@functools.cache
def pretrained_names() -> tuple[str, ...]:
    """Return the recipe of the bundled model, and those of the same network, for which its weights serve as well."""
    file = bundled_file("card.json")
    recipe = NETWORK_RECIPES[card_from_json(file.read_text(encoding="utf-8"), file)["recipe"]]
    same_network = [name for name, other in NETWORK_RECIPES.items() if other.model == recipe.model]
    return (recipe.name, *(name for name in same_network if name != recipe.name))
