"""nephros reproduce."""

from __future__ import annotations

from typing import Any

from nephros.commands.messages import print_path
from nephros.commands.parser import DATA_OPTION_HELP, DEVICE_HELP, CommandParser


def reproduce(argv: list[str]) -> int:
    """nephros reproduce"""
    parser = CommandParser(
        "reproduce",
        "Train the runs of a plan and write its table. baselines: the systems of the course report and the poster, beside "
        "their published results. labels: accuracy against the number of training images. nephros: the nephros recipes with "
        "three seeds, their ensembles, and the networks distilled from them. Finished runs are skipped and interrupted ones "
        "continue, so the same command resumes after a crash; the table is written again after each run.",
    )
    parser.add_argument("plan", help="baselines, labels or nephros")
    parser.option("only", "these rows only; --dry-run lists all (default: all)", metavar="KEY,KEY")
    parser.option("data", DATA_OPTION_HELP)
    parser.option("runs", "folder of the runs (default: runs)", metavar="DIR")
    parser.option("out", "folder of the tables (default: results; with --epochs beside the runs)", metavar="DIR")
    parser.option("device", DEVICE_HELP)
    parser.option("epochs", "limit on each run's epochs, to try the plan out", int)
    parser.flag("dry-run", "list the runs without training")
    args = parser.parse_argv(argv)
    plan, dry_run = args.pop("plan"), args.pop("dry_run", False)
    args["only"] = [key.strip() for key in args.pop("only", "").split(",") if key.strip()]
    if dry_run:
        args.pop("out", None)
        _print_plan(plan, args)
        return 0
    from nephros.workflows.reproduce import reproduce as reproduce_plan

    for path in reproduce_plan(plan, **args):
        print_path(path)
    return 0


def _print_plan(plan: str, args: dict[str, Any]) -> None:
    from nephros.console import table_console
    from nephros.text_tables import terminal_table
    from nephros.workflows.reproduce import planned_runs

    rows = [[run.key, str(run.seed), str(run.epochs), run.state, run.command] for run in planned_runs(plan, **args)]
    table_console().print(terminal_table(f"plan {plan}", ("key", "seed", "epochs", "state", "command"), rows))
