"""nephros train."""

from __future__ import annotations

import shlex
from typing import Any

from nephros.commands.parser import DATA_FLAG, DEVICE, Flags, needs_optuna
from nephros.errors import UserError
from nephros.recipe import Recipe
from nephros.recipe_io import find, overlay


def _flags() -> tuple[Flags, set[str]]:
    """Return the parser, and the names of what is not of the recipe."""
    flags = Flags(
        "train",
        "Train a recipe on a data set, judge it, and write its report. Any field of the recipe can be given as a flag; "
        "the defaults below are an empty recipe's, `nephros recipes NAME` prints those of a named one.",
    )
    flags.optional("recipe", "a name that `nephros recipes` lists, or a YAML file (default: nephros)")
    flags.value("data", DATA_FLAG)
    flags.value("size", "pixels a side: picks a set's 28, 64, 128 or 224 version, resizes a folder's", int)
    flags.value("subset", "train on so many images, every class's share kept", int)
    flags.value(
        "resplit",
        "draw train and validation anew, so many images each, from the two together",
        shown="TRAIN,VAL",
    )
    flags.value("data-seed", "seed of a folder's split, --subset and --resplit (default: 0)", int)
    flags.value(
        "teachers",
        "finished runs on the same data whose mean probabilities a recipe with a --teacher_share learns from",
        shown="RUN,RUN",
    )
    flags.value("device", DEVICE)
    flags.switch("test", "score the test split once, at the end")
    flags.switch("no-test", "do not score the test split (the default)")
    flags.value("out", "the run's folder (default: runs/RECIPE-DATE-TIME)")
    flags.value("resume", "take an interrupted run to its end", shown="RUN")
    flags.value(
        "from-study",
        "the best configuration of a study that `nephros tune` made, on the whole train split of its data",
        shown="STUDY",
    )
    flags.value("storage", "of --from-study, where its stored URL lacks a password", shown="URL")
    own = {action.dest for action in flags._actions}
    flags.add_class_arguments(Recipe)
    return flags, own


def train(words: list[str]) -> int:
    """nephros train"""
    flags, own = _flags()
    given = flags.read(words)
    from nephros.workflows import train as job

    asked = {key: given.pop(key) for key in list(given) if key in own}
    if "resume" in asked:
        if given or set(asked) - {"resume", "device"}:
            raise UserError("--resume takes the run as it began: leave the other flags out.")
        job.resume(asked["resume"], device=asked.get("device"))
        return 0
    if asked.pop("no_test", False) and asked.get("test"):
        raise UserError("--test and --no-test were both given: choose one.")
    if "teachers" in asked:
        asked["teachers"] = [word.strip() for word in asked["teachers"].split(",") if word.strip()]
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


def _tuned(asked: dict[str, Any]) -> Recipe:
    """Return the recipe of --from-study, and put the study's data where the user names none."""
    if "recipe" in asked:
        raise UserError("A recipe and --from-study were both given: leave one out.")
    with needs_optuna():
        from nephros.workflows.study import best_recipe
    recipe, request = best_recipe(asked.pop("from_study"), storage=asked.pop("storage", None))
    if "data" not in asked:
        if not request["source"]:
            raise UserError("The study was made on data given in Python: name the data with --data.")
        asked |= {"data": request["source"]} | ({"size": request["size"]} if request["size"] else {})
        asked.setdefault("data_seed", request["seed"])
    return recipe
