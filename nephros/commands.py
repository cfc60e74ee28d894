"""What each command parses and calls."""

from __future__ import annotations

import contextlib
import re
import shlex
from argparse import SUPPRESS
from collections.abc import Iterator
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from nephros.errors import UserError, did_you_mean
from nephros.recipe import Recipe
from nephros.recipe_files import find, overlay, tidy

DATA = "a name such as tissuemnist, the path of an npz file or of a folder with one sub-folder a class, or synthetic"


def make_parser(name: str, description: str, **options: Any) -> ArgumentParser:
    """Return an empty parser of a command's flags; `options` are ArgumentParser's own."""
    return ArgumentParser(
        prog=f"nephros {name}", description=description, exit_on_error=False, allow_abbrev=False, **options
    )


def parse(parser: ArgumentParser, words: list[str]) -> Namespace:
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
    parser = make_parser(
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
    parser.add_argument("--data", type=str, default=SUPPRESS, help=f"{DATA} (default: tissuemnist)")
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
        "--resplit",
        type=str,
        default=SUPPRESS,
        metavar="TRAIN,VAL",
        help="draw train and validation anew, so many images each, from the two together",
    )
    parser.add_argument(
        "--data_seed", type=int, default=SUPPRESS, help="seed of a folder's split, --subset and --resplit (default: 0)"
    )
    parser.add_argument(
        "--teachers",
        type=str,
        default=SUPPRESS,
        metavar="RUN,RUN",
        help="finished runs on the same data whose mean probabilities a recipe with a --teacher_share learns from",
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
    parser.add_argument(
        "--from_study",
        type=str,
        default=SUPPRESS,
        metavar="STUDY",
        help="the best configuration of a study that `nephros tune` made, on the whole train split of its data",
    )
    parser.add_argument(
        "--storage",
        type=str,
        default=SUPPRESS,
        metavar="URL",
        help="of --from-study, where its stored URL lacks a password",
    )
    parser.add_class_arguments(Recipe)
    given = parse(parser, words).as_dict()
    from nephros.jobs import train as job

    own = (
        "recipe",
        "data",
        "size",
        "subset",
        "resplit",
        "data_seed",
        "teachers",
        "device",
        "test",
        "no_test",
        "out",
        "resume",
        "from_study",
        "storage",
    )
    asked: dict[str, Any] = {key: value for key in own if (value := given.pop(key, None)) is not None}
    if "resume" in asked:
        if given or set(asked) - {"resume", "device"}:
            raise UserError("--resume takes the run as it began: leave the other flags out.")
        job.resume(asked["resume"], device=asked.get("device", "auto"))
        return 0
    if asked.pop("no_test", False) and asked.get("test"):
        raise UserError("--test and --no-test were both given: choose one.")
    if "teachers" in asked:
        asked["teachers"] = asked["teachers"].split(",")
    if "resplit" in asked:
        asked["resplit"] = _two(asked["resplit"])
    base = _tuned(asked) if "from_study" in asked else find(asked.pop("recipe", "nephros"))
    recipe = overlay(base, given)
    job.train(recipe, asked.pop("data", "tissuemnist"), command=shlex.join(["nephros", "train", *words]), **asked)
    return 0


def _two(written: str) -> list[int]:
    """Return the numbers of --resplit; UserError unless they are whole."""
    try:
        return [int(part) for part in written.split(",")]
    except ValueError:
        raise UserError(
            f"--resplit is {written}, but it must be two whole numbers, such as 120000,30000 for train and validation."
        ) from None


@contextlib.contextmanager
def needs_optuna() -> Iterator[None]:
    """Within the block a missing part of nephros[tune] is one sentence."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("optuna", "sqlalchemy", "fsspec"):
            raise
        raise UserError("Tuning needs Optuna: pip install 'nephros[tune]'.") from None


def _tuned(asked: dict[str, Any]) -> Recipe:
    """Return the recipe of --from-study, and put the study's data where the user names none."""
    if "recipe" in asked:
        raise UserError("A recipe and --from-study were both given: leave one out.")
    with needs_optuna():
        from nephros.jobs.study import best_recipe
    recipe, request = best_recipe(asked.pop("from_study"), storage=asked.pop("storage", None))
    if "data" not in asked:
        if not request["source"]:
            raise UserError("The study was made on data given in Python: name the data with --data.")
        asked |= {"data": request["source"]} | ({"size": request["size"]} if request["size"] else {})
        asked.setdefault("data_seed", request["seed"])
    return recipe


def evaluate(words: list[str]) -> int:
    """nephros evaluate"""
    parser = make_parser("evaluate", "Score a trained run. Every reading of the test split is logged in the run.")
    parser.add_argument("run", help="a folder that `nephros train` made")
    parser.add_argument("--split", type=str, default=SUPPRESS, help="val, test or train (default: val)")
    parser.add_argument("--data", type=str, default=SUPPRESS, help=f"other data than the run's own: {DATA}")
    parser.add_argument("--device", type=str, default=SUPPRESS, help="auto, cpu or cuda (default: auto)")
    given = parse(parser, words).as_dict()
    from nephros.evaluation.tables import show_evaluation
    from nephros.jobs import evaluate as job

    found = job.evaluate(given.pop("run"), **given)
    show_evaluation(found)
    return 0


def report(words: list[str]) -> int:
    """nephros report"""
    parser = make_parser("report", "Write a run's report.html and figures again, from what lies in its folder.")
    parser.add_argument("run", help="a folder that `nephros train` made")
    given = parse(parser, words)
    from nephros.jobs.report import report as job

    print(job(given.run))
    return 0


def recipes(words: list[str]) -> int:
    """nephros recipes"""
    parser = make_parser("recipes", "List the recipes, or print one as YAML text.")
    parser.add_argument("name", nargs="?", default=SUPPRESS, help="the recipe to print as YAML")
    name = parse(parser, words).as_dict().get("name")
    if name:
        from nephros.recipe import to_yaml

        print(to_yaml(find(name)), end="")
        return 0
    from nephros.jobs.recipes import show_recipes

    show_recipes()
    return 0


def data_info(words: list[str]) -> int:
    """nephros data info"""
    parser = make_parser("data info", "Say what a data set holds and where it comes from.")
    parser.add_argument("source", help=DATA)
    parser.add_argument("--size", type=int, default=SUPPRESS, help="28, 64, 128 or 224 pixels a side (default: 28)")
    given = parse(parser, words).as_dict()
    from nephros.data.load import load
    from nephros.data.tables import show_dataset

    show_dataset(load(given["source"], size=given.get("size")))
    return 0


def data_get(words: list[str]) -> int:
    """nephros data get"""
    parser = make_parser("data get", "Download a MedMNIST set into the cache folder and verify its MD5.")
    parser.add_argument("name", help="such as tissuemnist")
    parser.add_argument("--size", type=int, default=SUPPRESS, help="28, 64, 128 or 224 pixels a side (default: 28)")
    given = parse(parser, words).as_dict()
    from nephros.data.download import download, rich_progress

    with rich_progress(given["name"]) as progress:
        path = download(given["name"], given.get("size") or 28, progress=progress)
    print(path)
    return 0
