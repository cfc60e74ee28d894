"""nephros tune."""

from __future__ import annotations

import shlex
from argparse import RawDescriptionHelpFormatter
from typing import Any

from jsonargparse import DefaultHelpFormatter

from nephros.commands.parser import DATA_OPTION_HELP, DEVICE_HELP, CommandParser, require_tune_extra
from nephros.errors import NephrosError

_DESCRIPTION = """\
Tune a recipe by Hyperband (Li et al. 2018, Algorithm 1). Many configurations are drawn from a space and trained for a few
epochs; of each rung the best third (--eta 3) goes on from its checkpoint, until one has --max-epochs. The poster's flow,
27 for 1 epoch, 9 for 3, 3 for 9, 1 for 27, is --max-epochs 27 --brackets s=3; the default runs every bracket, which hedges
between many short and few long trials.

A space is a YAML file of recipe fields, such as:
  optimizer.name: [sgd, adamw]
  optimizer.lr: {low: 0.001, high: 0.3, log: true}
  optimizer.momentum: {low: 0.5, high: 0.99, when: {optimizer.name: [sgd]}}
  model.base_channels: [8, 16]
"""


class _RawHelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Leaves the description's lines as they are."""


_RUN_OPTIONS = ("workers", "storage", "cluster", "max_minutes", "data")
"""Flags that may be given anew when a study is resumed: the answer does not depend on them."""
_NON_PLAN_OPTIONS = (*_RUN_OPTIONS, "size", "data_seed", "checkpoints")


def _build_parser() -> CommandParser:
    parser = CommandParser("tune", _DESCRIPTION, formatter_class=_RawHelpFormatter)
    parser.optional_positional("recipe", "a name that `nephros recipes` lists, or a YAML file (default: poster)")
    parser.option("data", DATA_OPTION_HELP)
    parser.option("size", "pixels a side: picks a set's 28, 64, 128 or 224 version, resizes a folder's", int)
    parser.option("data-seed", "seed of a folder's split (default: 0)", int)
    parser.option("max-epochs", "R: epochs that the best are trained for (default: 27)", int, metavar="R")
    parser.option("eta", "one in so many goes on to the next rung (default: 3)", int)
    parser.option("brackets", "all, or one such as s=3 (default: all)")
    parser.option(
        "subset",
        "train on so many images and validate on a quarter as many; the winner is judged on all",
        int,
        metavar="N",
    )
    parser.option("metric", "val_accuracy, val_loss, val_macro_f1 or val_auc (default: the recipe's)")
    parser.option("space", "what is searched (default: a space for the recipe's network)", metavar="FILE.yaml")
    parser.option("sampler", "random, or tpe, which learns from earlier brackets as BOHB does (default: random)")
    parser.option("seed", "of the sampler, the subset and every trial (default: 0)", int)
    parser.option("threads", "CPU threads a trial; part of the study, as the last bits depend on it (default: 1)", int)
    parser.option("workers", "trials at once; the answer does not depend on it (default: one a core)", int)
    parser.option(
        "storage", "where the trials are kept for Optuna's tools (default: the study's folder)", metavar="FILE|URL"
    )
    parser.option(
        "checkpoints", "where checkpoints are kept, a folder or fsspec URL (default: the study's folder)", metavar="URL"
    )
    parser.option("cluster", "run trials on a Ray cluster: auto, or ray://HOST:PORT", metavar="ADDRESS")
    parser.option("device", DEVICE_HELP)
    parser.option("name", "the study's name and folder in studies/ (default: RECIPE-DATE-TIME)", metavar="STUDY")
    parser.option("max-minutes", "stop after so many minutes; --resume goes on", float, metavar="MINUTES")
    parser.flag("dry-run", "print the brackets, rungs and their cost; run nothing")
    parser.option("resume", "go on with a study where it was", metavar="STUDY")
    parser.option("show", "print how far a study is, and write its report", metavar="STUDY")
    return parser


def tune(argv: list[str]) -> int:
    """nephros tune"""
    args = _build_parser().parse_argv(argv)
    with require_tune_extra():
        from nephros.tuning import plan
        from nephros.workflows import study
        from nephros.workflows import tune as job
    if "show" in args:
        name, overrides = _pop_study("show", args, ("storage",))
        study.show_study(name, **overrides)
        return 0
    if "resume" in args:
        name, overrides = _pop_study("resume", args, _RUN_OPTIONS)
        job.resume_study(name, **overrides)
        return 0
    recipe = args.pop("recipe", "poster")
    if args.pop("dry_run", False):
        plan_args = {key: value for key, value in args.items() if key not in _NON_PLAN_OPTIONS}
        plan.print_plan(plan.plan_study(recipe, **plan_args))
        return 0
    job.tune(recipe, args.pop("data", "tissuemnist"), command=shlex.join(["nephros", "tune", *argv]), **args)
    return 0


def _pop_study(action: str, args: dict[str, Any], allowed: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """Return the study's name and the other flags; UserError when one of these belongs to the study as it was made."""
    study = args.pop(action)
    extra = sorted(set(args) - set(allowed))
    if extra:
        flags = ", ".join(name if name == "recipe" else f"--{name.replace('_', '-')}" for name in extra)
        raise NephrosError(f"--{action} takes the study as it was made: leave out {flags}.")
    return study, args
