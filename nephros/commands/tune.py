"""nephros tune."""

from __future__ import annotations

import shlex
from argparse import RawDescriptionHelpFormatter
from typing import Any

from jsonargparse import DefaultHelpFormatter

from nephros.commands.parser import DATA_FLAG, DEVICE, Flags, needs_optuna
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


_OF_A_RUN = ("workers", "storage", "cluster", "budget", "data")
"""Flags that may be given anew when a study is resumed: the answer does not depend on them."""
_NOT_OF_THE_PLAN = (*_OF_A_RUN, "size", "data_seed", "checkpoints")


def _flags() -> Flags:
    flags = Flags("tune", _DESCRIPTION, formatter_class=_AsWritten)
    flags.optional("recipe", "a name that `nephros recipes` lists, or a YAML file (default: poster)")
    flags.value("data", DATA_FLAG)
    flags.value("size", "pixels a side: picks a set's 28, 64, 128 or 224 version, resizes a folder's", int)
    flags.value("data-seed", "seed of a folder's split (default: 0)", int)
    flags.value("max-epochs", "R: epochs that the best are trained for (default: 27)", int, shown="R")
    flags.value("eta", "one in so many goes on to the next rung (default: 3)", int)
    flags.value("brackets", "all, or one such as s=3 (default: all)")
    flags.value(
        "subset",
        "train on so many images and validate on a quarter as many; the winner is judged on all",
        int,
        shown="N",
    )
    flags.value("metric", "val_accuracy, val_loss, val_macro_f1 or val_auc (default: the recipe's)")
    flags.value("space", "what is searched (default: a space for the recipe's network)", shown="FILE.yaml")
    flags.value("sampler", "random, or tpe, which learns from earlier brackets as BOHB does (default: random)")
    flags.value("seed", "of the sampler, the subset and every trial (default: 0)", int)
    flags.value("threads", "CPU threads a trial; part of the study, as the last bits depend on it (default: 1)", int)
    flags.value("workers", "trials at once; the answer does not depend on it (default: one a core)", int)
    flags.value(
        "storage", "where the trials are kept for Optuna's tools (default: the study's folder)", shown="FILE|URL"
    )
    flags.value(
        "checkpoints", "where checkpoints are kept, a folder or fsspec URL (default: the study's folder)", shown="URL"
    )
    flags.value("cluster", "run trials on a Ray cluster: auto, or ray://HOST:PORT", shown="ADDRESS")
    flags.value("device", DEVICE)
    flags.value("name", "the study's name and folder in studies/ (default: RECIPE-DATE-TIME)", shown="STUDY")
    flags.value("budget", "stop after so many minutes; --resume goes on", float, shown="MINUTES")
    flags.switch("dry-run", "print the brackets, rungs and their cost; run nothing")
    flags.value("resume", "go on with a study where it was", shown="STUDY")
    flags.value("show", "print how far a study is, and write its report", shown="STUDY")
    return flags


def tune(words: list[str]) -> int:
    """nephros tune"""
    asked = _flags().read(words)
    with needs_optuna():
        from nephros.tuning import plan
        from nephros.workflows import study
        from nephros.workflows import tune as job
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
