"""nephros recipes, data info and data get."""

from __future__ import annotations

from nephros.commands.parser import DATA, Flags
from nephros.recipe_io import find

_SIZE = "28, 64, 128 or 224 pixels a side (default: 28)"


def recipes(words: list[str]) -> int:
    """nephros recipes"""
    flags = Flags("recipes", "List the recipes, or print one as YAML text.")
    flags.optional("name", "the recipe to print as YAML")
    name = flags.read(words).get("name")
    if name:
        from nephros.recipe import to_yaml

        print(to_yaml(find(name)), end="")
        return 0
    from nephros.workflows.recipes import show_recipes

    show_recipes()
    return 0


def info(words: list[str]) -> int:
    """nephros data info"""
    flags = Flags("data info", "Say what a data set holds and where it comes from.")
    flags.add_argument("source", help=DATA)
    flags.value("size", _SIZE, int)
    given = flags.read(words)
    from nephros.data.info_table import show_dataset
    from nephros.data.load import load

    show_dataset(load(given["source"], size=given.get("size")))
    return 0


def get(words: list[str]) -> int:
    """nephros data get"""
    flags = Flags("data get", "Download a MedMNIST set into the cache folder and verify its MD5.")
    flags.add_argument("name", help="such as tissuemnist")
    flags.value("size", _SIZE, int)
    given = flags.read(words)
    from nephros.data.download import download, rich_progress

    with rich_progress(given["name"]) as progress:
        path = download(given["name"], given.get("size") or 28, progress=progress)
    print(path)
    return 0
