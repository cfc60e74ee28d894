"""What `nephros tune` parses and calls."""

from __future__ import annotations

import shlex
from argparse import SUPPRESS, RawDescriptionHelpFormatter
from typing import Any, NamedTuple

from jsonargparse import DefaultHelpFormatter

from nephros.commands import DATA, make_parser, needs_optuna, parse
from nephros.errors import UserError

_DESCRIPTION = """\
Tune a recipe by Hyperband (Li et al. 2018, Algorithm 1). Many configurations are drawn from a space and trained for a few
epochs; of each rung the best third (--eta 3) goes on from its checkpoint, until one has --max-epochs. The poster's flow,
27 for 1 epoch, 9 for 3, 3 for 9, 1 for 27, is --max-epochs 27 --brackets s=3; the default runs every bracket, which hedges
between many short and few long trials.

A space is a YAML file of recipe fields, such as:
  optimizer.name: [sgd, adamw]
  optimizer.lr: {low: 0.001, high: 0.3, log: true}
  optimizer.momentum: {low: 0.5, high: 0.99, when: {optimizer.name: [sgd]}}
  model.features: [8, 16]
"""


class _AsWritten(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Leaves the description's lines as they are."""


class _Flag(NamedTuple):
    name: str
    kind: type
    help: str
    metavar: str | None = None


_FLAGS = (
    _Flag("data", str, f"{DATA} (default: tissuemnist)"),
    _Flag("size", int, "pixels a side: picks a set's 28, 64, 128 or 224 version, resizes a folder's"),
    _Flag("data_seed", int, "seed of a folder's split (default: 0)"),
    _Flag("max_epochs", int, "R: epochs that the best are trained for (default: 27)", "R"),
    _Flag("eta", int, "one in so many goes on to the next rung (default: 3)"),
    _Flag("brackets", str, "all, or one such as s=3 (default: all)"),
    _Flag("subset", int, "train on so many images and validate on a quarter as many; the winner is judged on all", "N"),
    _Flag("metric", str, "val_accuracy, val_loss, val_macro_f1 or val_auc (default: the recipe's)"),
    _Flag("space", str, "what is searched (default: a space for the recipe's network)", "FILE.yaml"),
    _Flag("sampler", str, "random, or tpe, which learns from earlier brackets as BOHB does (default: random)"),
    _Flag("seed", int, "of the sampler, the subset and every trial (default: 0)"),
    _Flag("threads", int, "CPU threads a trial; part of the study, as the last bits depend on it (default: 1)"),
    _Flag("workers", int, "trials at once; the answer does not depend on it (default: one a core)"),
    _Flag("storage", str, "where the trials are kept for Optuna's tools (default: the study's folder)", "FILE|URL"),
    _Flag(
        "checkpoints", str, "where checkpoints are kept, a folder or fsspec URL (default: the study's folder)", "URL"
    ),
    _Flag("cluster", str, "run trials on a Ray cluster: auto, or ray://HOST:PORT", "ADDRESS"),
    _Flag("device", str, "auto, cpu or cuda (default: auto)"),
    _Flag("name", str, "the study's name and folder in studies/ (default: RECIPE-DATE-TIME)", "STUDY"),
    _Flag("budget", float, "stop after so many minutes; --resume goes on", "MINUTES"),
)
_OF_A_RUN = ("workers", "storage", "cluster", "budget", "data")
"""Flags that may be given anew when a study is resumed: the answer does not depend on them."""
_NOT_OF_THE_PLAN = (*_OF_A_RUN, "size", "data_seed", "checkpoints")


def tune(words: list[str]) -> int:
    """nephros tune"""
    parser = make_parser("tune", _DESCRIPTION, formatter_class=_AsWritten)
    parser.add_argument(
        "recipe",
        nargs="?",
        default=SUPPRESS,
        help="a name that `nephros recipes` lists, or a YAML file (default: poster)",
    )
    for flag in _FLAGS:
        parser.add_argument(f"--{flag.name}", type=flag.kind, default=SUPPRESS, help=flag.help, metavar=flag.metavar)
    parser.add_argument(
        "--dry_run", action="store_true", default=SUPPRESS, help="print the brackets, rungs and their cost; run nothing"
    )
    parser.add_argument("--resume", type=str, default=SUPPRESS, metavar="STUDY", help="go on with a study where it was")
    parser.add_argument(
        "--show", type=str, default=SUPPRESS, metavar="STUDY", help="print how far a study is, and write its report"
    )
    asked = parse(parser, words).as_dict()
    with needs_optuna():
        from nephros.jobs import plan, study
        from nephros.jobs import tune as job
    if "show" in asked:
        name, rest = _as_made("show", asked, ("storage",))
        study.show_study(name, **rest)
        return 0
    if "resume" in asked:
        name, rest = _as_made("resume", asked, _OF_A_RUN)
        job.resume_study(name, **rest)
        return 0
    recipe = asked.pop("recipe", "poster")
    if asked.pop("dry_run", False):
        ours = {key: value for key, value in asked.items() if key not in _NOT_OF_THE_PLAN}
        plan.show_plan(plan.plan(recipe, **ours))
        return 0
    job.tune(recipe, asked.pop("data", "tissuemnist"), command=shlex.join(["nephros", "tune", *words]), **asked)
    return 0


def _as_made(verb: str, asked: dict[str, Any], allowed: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """Return the study's name and the other flags; UserError when one of these belongs to the study as it was made."""
    study = asked.pop(verb)
    extra = sorted(set(asked) - set(allowed))
    if extra:
        flags = ", ".join(name if name == "recipe" else f"--{name.replace('_', '-')}" for name in extra)
        raise UserError(f"--{verb} takes the study as it was made: leave out {flags}.")
    return study, asked
