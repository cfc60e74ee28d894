"""What each command parses and calls."""

from __future__ import annotations

import re
import shlex
from argparse import SUPPRESS
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from nephros.errors import UserError, did_you_mean
from nephros.recipe import Recipe
from nephros.recipe_files import find, overlay, tidy

_DATA = "a name such as tissuemnist, the path of an npz file or of a folder with one sub-folder a class, or synthetic"


def _parser(name: str, description: str) -> ArgumentParser:
    return ArgumentParser(prog=f"nephros {name}", description=description, exit_on_error=False, allow_abbrev=False)


def _parse(parser: ArgumentParser, words: list[str]) -> Namespace:
    """Return only what `words` give; UserError in one sentence, with the nearest flag, for what is not understood.

    A flag may be written with - for _.
    """
    flags = [option for action in parser._actions for option in action.option_strings]
    try:
        given: Namespace = parser.parse_args([_spelt(word, flags) for word in words], defaults=False)
    except Exception as error:
        message = str(error)
        unknown = re.search(r"unrecognized arguments: (\S+)", message)
        if unknown:
            flag = unknown[1].split("=")[0]
            near = did_you_mean(flag, flags)
            raise UserError(f"'{flag}' is not understood.{near} `{parser.prog} --help` lists the flags.") from None
        raise UserError(f"{tidy(message)} `{parser.prog} --help` tells more.") from None
    return given


def _spelt(word: str, flags: list[str]) -> str:
    flag, equals, value = word.partition("=")
    respelt = "--" + flag[2:].replace("-", "_")
    return respelt + equals + value if word.startswith("--") and flag not in flags and respelt in flags else word


def train(words: list[str]) -> int:
    """nephros train"""
    parser = _parser(
        "train",
        "Train a recipe on a data set, judge it, and write its report. Any field of the recipe can be given as a flag; "
        "the defaults below are an empty recipe's, `nephros recipes NAME` prints those of a named one.",
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        default=SUPPRESS,
        help="a name that `nephros recipes` lists, or a YAML file (default: nephros)",
    )
    parser.add_argument("--data", type=str, default=SUPPRESS, help=f"{_DATA} (default: tissuemnist)")
    parser.add_argument(
        "--size",
        type=int,
        default=SUPPRESS,
        help="pixels a side: picks a set's 28, 64, 128 or 224 version, resizes a folder's",
    )
    parser.add_argument(
        "--subset", type=int, default=SUPPRESS, help="train on so many images, every class's share kept"
    )
    parser.add_argument(
        "--data_seed", type=int, default=SUPPRESS, help="seed of a folder's split and of --subset (default: 0)"
    )
    parser.add_argument("--device", type=str, default=SUPPRESS, help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--test", action="store_true", default=SUPPRESS, help="score the test split once, at the end")
    parser.add_argument(
        "--no-test",
        dest="no_test",
        action="store_true",
        default=SUPPRESS,
        help="do not score the test split (the default)",
    )
    parser.add_argument("--out", type=str, default=SUPPRESS, help="the run's folder (default: runs/RECIPE-DATE-TIME)")
    parser.add_argument(
        "--resume", type=str, default=SUPPRESS, metavar="RUN", help="take an interrupted run to its end"
    )
    parser.add_class_arguments(Recipe)
    given = _parse(parser, words).as_dict()
    from nephros.jobs import train as job

    own = ("recipe", "data", "size", "subset", "data_seed", "device", "test", "no_test", "out", "resume")
    asked: dict[str, Any] = {key: value for key in own if (value := given.pop(key, None)) is not None}
    if "resume" in asked:
        if given or set(asked) - {"resume", "device"}:
            raise UserError("--resume takes the run as it began: leave the other flags out.")
        job.resume(asked["resume"], device=asked.get("device", "auto"))
        return 0
    if asked.pop("no_test", False) and asked.get("test"):
        raise UserError("--test and --no-test were both given: choose one.")
    recipe = overlay(find(asked.pop("recipe", "nephros")), given)
    job.train(recipe, asked.pop("data", "tissuemnist"), command=shlex.join(["nephros", "train", *words]), **asked)
    return 0


def evaluate(words: list[str]) -> int:
    """nephros evaluate"""
    parser = _parser("evaluate", "Score a trained run. Every reading of the test split is logged in the run.")
    parser.add_argument("run", help="a folder that `nephros train` made")
    parser.add_argument("--split", type=str, default=SUPPRESS, help="val, test or train (default: val)")
    parser.add_argument("--data", type=str, default=SUPPRESS, help=f"other data than the run's own: {_DATA}")
    parser.add_argument("--device", type=str, default=SUPPRESS, help="auto, cpu or cuda (default: auto)")
    given = _parse(parser, words).as_dict()
    from nephros.evaluation.tables import show_evaluation
    from nephros.jobs import evaluate as job

    found = job.evaluate(given.pop("run"), **given)
    show_evaluation(found)
    return 0


def report(words: list[str]) -> int:
    """nephros report"""
    parser = _parser("report", "Write a run's report.html and figures again, from what lies in its folder.")
    parser.add_argument("run", help="a folder that `nephros train` made")
    given = _parse(parser, words)
    from nephros.jobs.report import report as job

    print(job(given.run))
    return 0


def recipes(words: list[str]) -> int:
    """nephros recipes"""
    parser = _parser("recipes", "List the recipes, or print one as YAML text.")
    parser.add_argument("name", nargs="?", default=SUPPRESS, help="the recipe to print as YAML")
    name = _parse(parser, words).as_dict().get("name")
    if name:
        from nephros.recipe import to_yaml

        print(to_yaml(find(name)), end="")
        return 0
    from nephros.jobs.recipes import show_recipes

    show_recipes()
    return 0


def data_info(words: list[str]) -> int:
    """nephros data info"""
    parser = _parser("data info", "Say what a data set holds and where it comes from.")
    parser.add_argument("source", help=_DATA)
    parser.add_argument("--size", type=int, default=SUPPRESS, help="28, 64, 128 or 224 pixels a side (default: 28)")
    given = _parse(parser, words).as_dict()
    from nephros.data.load import load
    from nephros.data.tables import show_dataset

    show_dataset(load(given["source"], size=given.get("size")))
    return 0


def data_get(words: list[str]) -> int:
    """nephros data get"""
    parser = _parser("data get", "Download a MedMNIST set into the cache folder and verify its MD5.")
    parser.add_argument("name", help="such as tissuemnist")
    parser.add_argument("--size", type=int, default=SUPPRESS, help="28, 64, 128 or 224 pixels a side (default: 28)")
    given = _parse(parser, words).as_dict()
    from nephros.data.download import download, rich_progress

    with rich_progress(given["name"]) as progress:
        path = download(given["name"], given.get("size") or 28, progress=progress)
    print(path)
    return 0
