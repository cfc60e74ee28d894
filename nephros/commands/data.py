"""nephros recipes, data info and data get."""

from __future__ import annotations

from nephros.commands.parser import DATA_HELP, CommandParser
from nephros.recipe_io import get_recipe

_SIZE = "28, 64, 128 or 224 pixels a side (default: 28)"


def recipes(argv: list[str]) -> int:
    """nephros recipes"""
    parser = CommandParser("recipes", "List the recipes, or print one as YAML text.")
    parser.optional_positional("name", "the recipe to print as YAML")
    name = parser.parse_argv(argv).get("name")
    if name:
        from nephros.recipe import to_yaml

        print(to_yaml(get_recipe(name)), end="")
        return 0
    from nephros.workflows.recipes import print_recipes

    print_recipes()
    return 0


def info(argv: list[str]) -> int:
    """nephros data info"""
    parser = CommandParser("data info", "Say what a data set holds and where it comes from.")
    parser.add_argument("source", help=DATA_HELP)
    parser.option("size", _SIZE, int)
    args = parser.parse_argv(argv)
    from nephros.data.info_table import print_dataset
    from nephros.data.load import load

    print_dataset(load(args["source"], size=args.get("size")))
    return 0


def get(argv: list[str]) -> int:
    """nephros data get"""
    parser = CommandParser("data get", "Download a MedMNIST set into the cache folder and verify its MD5.")
    parser.add_argument("name", help="such as tissuemnist")
    parser.option("size", _SIZE, int)
    args = parser.parse_argv(argv)
    from nephros.data.download import download, show_download_progress

    with show_download_progress(args["name"]) as progress:
        path = download(args["name"], args.get("size") or 28, progress=progress)
    print(path)
    return 0
