"""nephros train."""

from __future__ import annotations

import shlex
from typing import Any

from nephros.commands.parser import DATA_OPTION_HELP, DEVICE_HELP, CommandParser, require_tune_extra
from nephros.errors import NephrosError
from nephros.recipe import Recipe
from nephros.recipe_io import apply_overrides, get_recipe


def _build_parser() -> tuple[CommandParser, set[str]]:
    """Return the parser, and the names of what is not of the recipe."""
    parser = CommandParser(
        "train",
        "Train a recipe on a data set, judge it, and write its report. Any field of the recipe can be given as a flag; "
        "the defaults below are an empty recipe's, `nephros recipes NAME` prints those of a named one.",
    )
    parser.optional_positional("recipe", "a name that `nephros recipes` lists, or a YAML file (default: nephros)")
    parser.option("data", DATA_OPTION_HELP)
    parser.option("size", "pixels a side: picks a set's 28, 64, 128 or 224 version, resizes a folder's", int)
    parser.option("subset", "train on so many images, every class's share kept", int)
    parser.option(
        "resplit",
        "draw train and validation anew, so many images each, from the two together",
        metavar="TRAIN,VAL",
    )
    parser.option("data-seed", "seed of a folder's split, --subset and --resplit (default: 0)", int)
    parser.option(
        "teachers",
        "finished runs on the same data whose mean probabilities a recipe with a --distillation_weight learns from",
        metavar="RUN,RUN",
    )
    parser.option("device", DEVICE_HELP)
    parser.flag("test", "score the test split once, at the end")
    parser.flag("no-test", "do not score the test split (the default)")
    parser.option("out", "the run's folder (default: runs/RECIPE-DATE-TIME)")
    parser.option("resume", "take an interrupted run to its end", metavar="RUN")
    parser.option(
        "from-study",
        "the best configuration of a study that `nephros tune` made, on the whole train split of its data",
        metavar="STUDY",
    )
    parser.option("storage", "of --from-study, where its stored URL lacks a password", metavar="URL")
    option_names = {action.dest for action in parser._actions}
    parser.add_class_arguments(Recipe)
    return parser, option_names


def train(argv: list[str]) -> int:
    """nephros train"""
    parser, option_names = _build_parser()
    overrides = parser.parse_argv(argv)
    from nephros.workflows import train as job

    args = {key: overrides.pop(key) for key in list(overrides) if key in option_names}
    if "resume" in args:
        if overrides or set(args) - {"resume", "device"}:
            raise NephrosError("--resume takes the run as it began: leave the other flags out.")
        job.resume(args["resume"], device=args.get("device"))
        return 0
    if args.pop("no_test", False) and args.get("test"):
        raise NephrosError("--test and --no-test were both given: choose one.")
    if "teachers" in args:
        args["teachers"] = [word.strip() for word in args["teachers"].split(",") if word.strip()]
    if "resplit" in args:
        args["resplit"] = _parse_resplit(args["resplit"])
    base = _recipe_from_study(args) if "from_study" in args else get_recipe(args.pop("recipe", "nephros"))
    recipe = apply_overrides(base, overrides)
    job.train(recipe, args.pop("data", "tissuemnist"), command=shlex.join(["nephros", "train", *argv]), **args)
    return 0


def _parse_resplit(text: str) -> list[int]:
    """Return the numbers of --resplit; UserError unless they are whole."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise NephrosError(
            f"--resplit is {text}, but it must be two whole numbers, such as 120000,30000 for train and validation."
        ) from None


def _recipe_from_study(args: dict[str, Any]) -> Recipe:
    """Return the recipe of --from-study, and put the study's data where the user names none."""
    if "recipe" in args:
        raise NephrosError("A recipe and --from-study were both given: leave one out.")
    with require_tune_extra():
        from nephros.workflows.study import best_recipe
    recipe, request = best_recipe(args.pop("from_study"), storage=args.pop("storage", None))
    if "data" not in args:
        if not request["source"]:
            raise NephrosError("The study was made on data given in Python: name the data with --data.")
        args |= {"data": request["source"]} | ({"size": request["size"]} if request["size"] else {})
        args.setdefault("data_seed", request["seed"])
    return recipe
