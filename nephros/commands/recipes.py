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
    """Print each recipe's name, network, epochs, cost on TissueMNIST's images or its nuclei's volumes, and source."""
    from nephros.console import table_console
    from nephros.models import build_network, default_input_spec
    from nephros.models.flops import count_multiply_adds, count_parameters
    from nephros.presets import RECIPES
    from nephros.text_tables import terminal_table

    rows = []
    for recipe in RECIPES.values():
        cells = ["-", "-", "-"]  # the cost of a classical baseline depends on the data
        if not recipe.is_classical:
            spec = default_input_spec(recipe.model)
            network = build_network(recipe.model, spec)
            cells = [
                f"{recipe.epochs}",
                f"{count_parameters(network):,}",
                f"{count_multiply_adds(network, spec):,}",
            ]
        rows.append([recipe.name, recipe.model.network, *cells, recipe.source])
    numeric = ("epochs", "parameters", "multiply-adds")
    title = "recipes (parameters and multiply-adds for 8 classes, and 28x28 grayscale images or volumes of 7x32x32)"
    table_console().print(terminal_table(title, ("name", "network", *numeric, "source"), rows, numeric=numeric))
