"""nephros recipes."""

from __future__ import annotations

from nephros.commands.parser import CommandParser
from nephros.recipe_io import get_recipe


def recipes(argv: list[str]) -> int:
    """nephros recipes"""
    parser = CommandParser("recipes", "List the recipes, or print one as YAML.")
    parser.optional_positional("name", "the recipe to print as YAML")
    name = parser.parse_argv(argv).get("name")
    if name:
        from nephros.recipe import to_yaml

        print(to_yaml(get_recipe(name)), end="")
        return 0
    from nephros.workflows.recipes import print_recipes

    print_recipes()
    return 0
