"""nephros tune."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from nephros.commands.messages import print_line
from nephros.commands.parser import (
    CHANNEL_HELP,
    DATA_OPTION_HELP,
    DEVICE_HELP,
    GROUPS_HELP,
    MOVED_STUDY_DATA_HELP,
    WHITE_LEVEL_HELP,
    CommandParser,
    recorded_command,
    require_tune_extra,
)
from nephros.errors import NephrosError

if TYPE_CHECKING:
    from nephros.tuning.study_folder import StudyFolder
    from nephros.tuning.study_state import StudyState

_DESCRIPTION = """\
Tune a recipe by Hyperband (Li et al. 2018, Algorithm 1).

Many configurations are sampled from a search space and trained for a few epochs. At the end of each rung the best third
(--eta 3) is promoted and continues from its checkpoint, up to --max-epochs. Brackets start with many configurations for few
epochs or with few for many; by default all brackets run. The poster's schedule (27 configurations for 1 epoch, 9 for 3, 3 for 9,
1 for 27) is one of them: --max-epochs 27 --brackets s=3.

A search space is a YAML file of recipe fields, such as:

  optimizer.name: [sgd, adamw]
  optimizer.lr: {low: 0.001, high: 0.3, log: true}
  optimizer.momentum: {low: 0.5, high: 0.99, when: {optimizer.name: [sgd]}}
  model.base_channels: [8, 16]
"""


_RUN_OPTIONS = ("workers", "storage", "ray_address", "max_minutes", "data")
"""Parameters that may change when a study is resumed, as its result doesn't depend on them."""
_NON_PLAN_OPTIONS = (*_RUN_OPTIONS, "size", "data_seed", "white_level", "channel", "groups", "checkpoint_dir")


def _build_parser() -> CommandParser:
    parser = CommandParser("tune", _DESCRIPTION)
    parser.optional_positional("recipe", "a name that `nephros recipes` lists, or a YAML file (default: poster)")
    parser.option("data", f"{DATA_OPTION_HELP}; with --resume: {MOVED_STUDY_DATA_HELP}")
    parser.option(
        "size",
        "pixels per side: the 28, 64, 128 or 224 version of a MedMNIST set, or what a folder's images are resized to",
        int,
    )
    parser.option("data-seed", "seed of a folder's split (default: 0)", int)
    parser.option("white-level", WHITE_LEVEL_HELP, float, "VALUE")
    parser.option("channel", CHANNEL_HELP, int)
    parser.option("groups", GROUPS_HELP)
    parser.option(
        "max-epochs",
        "epochs that the best configurations are trained for; Hyperband's R (default: 27)",
        int,
        metavar="R",
    )
    parser.option("eta", "one in this many configurations is promoted to the next rung (default: 3)", int)
    parser.option("brackets", "all, or a single one such as s=3 (default: all)")
    subset_help = (
        "train on this many images and validate on a quarter as many; the best is evaluated on all of validation"
    )
    parser.option("subset", subset_help, int, metavar="N")
    parser.option("metric", "val_accuracy, val_loss, val_macro_f1 or val_auc (default: the recipe's)")
    parser.option("space", "the search space (default: a built-in one for the recipe's network)", metavar="FILE.yaml")
    parser.option("sampler", "random; or tpe, which learns from earlier brackets, as in BOHB (default: random)")
    parser.option("seed", "seed of the sampler, the subset and every trial (default: 0)", int)
    threads_help = "CPU threads per trial; fixed for a study, as the last bits of results depend on it (default: 1)"
    parser.option("threads-per-trial", threads_help, int, metavar="N")
    workers_help = (
        "trials at a time; the result doesn't depend on it (default: one per GPU or, on CPUs, as many as cores and memory have "
        "room for)"
    )
    parser.option("workers", workers_help, int)
    storage_help = (
        "where the Optuna study is stored: an SQLite file or a PostgreSQL URL (default: in the study's folder)"
    )
    parser.option("storage", storage_help, metavar="FILE|URL")
    checkpoint_help = "folder or fsspec URL for checkpoints (default: in the study's folder)"
    parser.option("checkpoint-dir", checkpoint_help, metavar="DIR|URL")
    parser.option("ray-address", "run trials on this Ray cluster: auto, or ray://HOST:PORT", metavar="ADDRESS")
    parser.option("device", DEVICE_HELP)
    parser.option(
        "name", "name of the study and of its folder in studies/ (default: RECIPE-DATE-TIME)", metavar="STUDY"
    )
    parser.option("max-minutes", "stop after this many minutes, to be resumed later", float, metavar="MINUTES")
    parser.flag("dry-run", "print the brackets and their cost, without training")
    parser.option("resume", "continue a study after an interruption", metavar="STUDY")
    parser.option("show", "print the progress of a study, and write its report", metavar="STUDY")
    return parser


def tune(argv: list[str]) -> int:
    """nephros tune"""
    args = _build_parser().parse_argv(argv)
    with require_tune_extra():
        from nephros.console import table_console
        from nephros.tuning.progress import plan_table, progress_table
        from nephros.tuning.settings import plan_study
        from nephros.tuning.study_folder import STUDIES_DIR, StudyFolder
        from nephros.workflows.study import show_study
        from nephros.workflows.tune import resume_study
        from nephros.workflows.tune import tune as start_study
    if "show" in args:
        name, overrides = _pop_study("show", args, ("storage",))
        study_state = show_study(name, **overrides)
        table_console().print(progress_table(study_state))
        _print_summary(StudyFolder.open(name), study_state)
        return 0
    if "resume" in args:
        name, overrides = _pop_study("resume", args, _RUN_OPTIONS)
        study_state = resume_study(name, **overrides)
        _print_summary(StudyFolder.open(name), study_state)
        return 0
    recipe = args.pop("recipe", "poster")
    if args.pop("dry_run", False):
        plan_args = {key: value for key, value in args.items() if key not in _NON_PLAN_OPTIONS}
        table_console().print(plan_table(plan_study(recipe, **plan_args)))
        return 0
    command = recorded_command("tune", argv)
    study_state = start_study(recipe, args.pop("data", "tissuemnist"), command=command, **args)
    _print_summary(StudyFolder(STUDIES_DIR / study_state.settings.name), study_state)
    return 0


def _pop_study(action: str, args: dict[str, Any], allowed: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """Return the study's name and the other flags; NephrosError for flags that the study has already fixed."""
    study = args.pop(action)
    extra = sorted(set(args) - set(allowed))
    if extra:
        flags = ", ".join("RECIPE" if name == "recipe" else f"--{name.replace('_', '-')}" for name in extra)
        raise NephrosError(f"--{action} keeps the study's own settings: leave out {flags}.")
    return study, args


def _print_summary(folder: StudyFolder, study_state: StudyState) -> None:
    """Print the best configuration, its metrics, and what to do next."""
    from nephros.reporting.study.formatting import config_name, format_value
    from nephros.reporting.study.page import report_file
    from nephros.text_tables import pluralize

    best, metric = study_state.best, study_state.settings.metric
    if best is None:
        print_line("no rung is finished yet")
    else:
        params = study_state.configs[best.key].params
        values = ", ".join(f"{key} {format_value(value)}" for key, value in params.items())
        epochs = pluralize(best.epochs, "epoch")
        print_line(f"best: {metric} {best.value:.4f} after {epochs} ({config_name(best.key)}): {values}")
        if (metrics := study_state.best_metrics) is not None:
            figures = f"accuracy {metrics.accuracy:.4f}, loss {metrics.loss:.4f}"
            print_line(f"on the whole validation split ({metrics.n:,} images): {figures}")
        if study_state.finished:
            print_line(f"train it on the whole train split: nephros train --from-study {shlex.quote(folder.name)}")
    if not study_state.finished:
        trained = f"{study_state.trained_epochs:,} of {study_state.planned_epochs:,} epochs"
        resume = f"nephros tune --resume {shlex.quote(folder.name)}"
        print_line(f"not finished, after {trained}, so a better configuration may follow: {resume}")
    print_line(f"report: {report_file(study_state, folder.root)}")
