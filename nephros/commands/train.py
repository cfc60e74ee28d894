"""`nephros train`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from nephros.commands.messages import print_line
from nephros.commands.parser import (
    DATA_OPTION_HELP,
    DEVICE_HELP,
    MOVED_DATA_HELP,
    CommandParser,
    parse_resplit,
    recorded_command,
    require_tune_extra,
)
from nephros.errors import NephrosError
from nephros.imports import collection_paused
from nephros.presets import RECIPES
from nephros.recipe import Recipe
from nephros.recipe_io import add_recipe_arguments, apply_overrides, get_recipe

if TYPE_CHECKING:
    from nephros.runs import RunFolder


def _build_parser() -> tuple[CommandParser, set[str]]:
    """Return the parser, and the names of its options that are not fields of the recipe."""
    parser = CommandParser(
        "train",
        "Train a recipe on a data set, evaluate the result and write its report.\n\n"
        "Every field of a recipe is an option and replaces the recipe's value, which `nephros recipes NAME` prints. In brackets: "
        "the value of a field that a YAML file leaves out. In the names of options, - and _ are the same.",
    )
    parser.optional_positional("recipe", "a name that `nephros recipes` lists, or a YAML file (default: nephros)")
    parser.option("data", f"{DATA_OPTION_HELP}; with --resume: {MOVED_DATA_HELP}")
    parser.training_data_options()
    parser.option(
        "teachers",
        "models of the same data, whose mean probabilities are learned too, with the weight --distillation_weight: finished "
        "runs, exported .safetensors files, or names that `nephros models` lists",
        metavar="NAME|RUN|FILE,...",
    )
    parser.option(
        "init",
        "start from these weights instead of random ones: a name that `nephros models` lists, a run folder, or a .safetensors "
        "file of the same network. For other classes the last layer starts from random weights. It helps most with few images",
        metavar="NAME|RUN|FILE",
    )
    parser.option(
        "freeze",
        "stages that keep the weights of --init while the rest is trained, such as stem,stage1 (stages: stem, stage1, stage2, "
        "..., head)",
        metavar="STAGE,STAGE",
    )
    parser.option("device", DEVICE_HELP)
    parser.option(
        "threads",
        "CPU cores to use (default: all). Where steps are large enough, each core trains a replica of the network on its part of "
        "every batch; the run keeps their number, on which the results depend slightly",
        int,
        metavar="N",
    )
    parser.option(
        "log", "also log to tensorboard, mlflow or wandb; each needs the extra of its name", metavar="TRACKER"
    )
    parser.flag("test", "evaluate on the test split once, at the end")
    parser.flag("no-test", "don't evaluate on the test split (the default)")
    parser.option("out", "the run's folder (default: runs/RECIPE-DATE-TIME)", metavar="DIR")
    parser.option("resume", "continue an interrupted run, with its own settings", metavar="RUN")
    parser.option(
        "from-study",
        "train the best configuration of a study by `nephros tune`, on the whole train split of its data",
        metavar="STUDY",
    )
    parser.option("storage", "storage of that study, if the URL that it remembers lacks the password", metavar="URL")
    option_names = {action.dest for action in parser._actions}
    add_recipe_arguments(parser)
    return parser, option_names


def train(argv: list[str]) -> int:
    """Run `nephros train`."""
    parser, option_names = _build_parser()
    overrides = parser.parse_argv(argv)
    with collection_paused():
        from nephros.workflows.resume import resume
        from nephros.workflows.train import train as train_recipe

    args = {key: overrides.pop(key) for key in list(overrides) if key in option_names}
    if "resume" in args:
        if overrides or set(args) - {"resume", "device", "data", "threads", "log"}:
            raise NephrosError(
                "--resume continues a run with the settings it started with: leave out the other options except --device, "
                "--threads, --log, and --data where the data has moved."
            )
        return _print_result(resume(args.pop("resume"), args.pop("data", None), **args))
    if "storage" in args and "from_study" not in args:
        raise NephrosError("--storage is where --from-study finds its study: give both, or leave it out.")
    if args.pop("no_test", False) and args.get("test"):
        raise NephrosError("--test and --no-test exclude each other: give one of them.")
    for name in {"teachers", "freeze"} & set(args):
        args[name] = [item.strip() for item in args[name].split(",") if item.strip()]
    if "resplit" in args:
        args["resplit"] = parse_resplit(args["resplit"])
    name = args.get("recipe", "nephros")
    if "from_study" not in args and name in RECIPES:
        # What the user sets stays as it is; a named recipe's own values may be adapted to small data.
        args["adaptable"] = {"batch_size", "passes_per_epoch"} - set(overrides)
    base = _recipe_from_study(args) if "from_study" in args else get_recipe(args.pop("recipe", "nephros"))
    recipe = apply_overrides(base, overrides)
    command = recorded_command("train", argv)
    return _print_result(train_recipe(recipe, args.pop("data", "tissuemnist"), command=command, **args))


def _print_result(run: RunFolder) -> int:
    """Print the final figures with their intervals, and the path of the report."""
    if os.environ.get("RANK", "0") != "0":  # only the first of torchrun's processes
        return 0
    from nephros.evaluation.metrics import Metrics
    from nephros.text_tables import format_number

    for split in ("val", "test"):
        if run.file(split, "metrics.json").is_file():
            metrics = Metrics.from_run(run, split)
            interval = metrics.accuracy_interval
            print_line(
                f"{split}: accuracy {metrics.accuracy:.4f} ({interval.low:.4f} to {interval.high:.4f}, {interval.method}), AUC "
                f"{format_number(metrics.auc, missing='undefined')}, {metrics.n:,} images"
            )
    print_line(f"report: {run.file('report.html')}")
    return 0


def _recipe_from_study(args: dict[str, Any]) -> Recipe:
    """Return the recipe of --from-study, and add the study's data to `args` unless the user named other data."""
    if "recipe" in args:
        raise NephrosError("A recipe and --from-study exclude each other: leave one out.")
    with require_tune_extra():
        from nephros.workflows.study import best_recipe
    recipe, request = best_recipe(args.pop("from_study"), storage=args.pop("storage", None))
    if "data" not in args:
        if not request["source"]:
            raise NephrosError("The study was run on data from Python: name the data with --data.")
        args |= {"data": request["source"]} | ({"size": request["size"]} if request.get("size") else {})
        args.setdefault("data_seed", request.get("seed", 0))
        for option, value in (("white_level", request.get("white_level")), ("channel", request.get("channel"))):
            if value is not None:
                args.setdefault(option, value)
        args.setdefault("groups", request.get("groups", "none"))  # as studies were split before there was a choice
    return recipe
