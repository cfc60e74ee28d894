"""nephros recipes."""

from __future__ import annotations

from nephros.commands.parser import CommandParser
from nephros.recipe import to_yaml
from nephros.recipe_io import get_recipe


def recipes(argv: list[str]) -> int:
    """nephros recipes"""
    parser = CommandParser(
        "recipes", "List the recipes, or print one as YAML, to edit and train: nephros train FILE.yaml"
    )
    parser.optional_positional("name", "the recipe to print")
    name = parser.parse_argv(argv).get("name")
    if name:
        print(to_yaml(get_recipe(name)), end="")
    else:
        _print_recipes()
    return 0


def _print_recipes() -> None:
    """Print each recipe's name, network, epochs, cost on TissueMNIST at 28x28 pixels, and source."""
    from nephros.console import table_console
    from nephros.models import build_network
    from nephros.models.classifier import InputSpec
    from nephros.models.flops import count_multiply_adds, count_parameters
    from nephros.presets import RECIPES
    from nephros.text_tables import terminal_table

    spec = InputSpec(channels=1, height=28, width=28, n_classes=8)
    rows = []
    for recipe in RECIPES.values():
        cells = ["-", "-", "-"]  # the cost of a classical baseline depends on the data
        if not recipe.is_classical:
            network = build_network(recipe.model, spec)
            cells = [
                f"{recipe.epochs}",
                f"{count_parameters(network):,}",
                f"{count_multiply_adds(network, spec):,}",
            ]
        rows.append([recipe.name, recipe.model.network, *cells, recipe.source])
    numeric = ("epochs", "parameters", "multiply-adds")
    title = "recipes (parameters and multiply-adds for 28x28 grayscale images and 8 classes)"
    table_console().print(terminal_table(title, ("name", "network", *numeric, "source"), rows, numeric=numeric))
