"""nephros reproduce."""

from __future__ import annotations

from typing import Any

from nephros.commands.messages import print_path
from nephros.commands.parser import DATA_OPTION_HELP, DEVICE_HELP, CommandParser


def reproduce(argv: list[str]) -> int:
    """nephros reproduce"""
    parser = CommandParser(
        "reproduce",
        "Train the runs of a plan and write its table:\n\n"
        "  baselines  the systems of the course report and the poster, beside their published results\n"
        "  labels     accuracy against the number of training images\n"
        "  nephros    the nephros recipes with three seeds, their ensembles, and the networks distilled from them\n"
        "  transfer   fine-tuning on classes that the source never saw, from 10 to 500 labels per class, beside other methods\n\n"
        "The table is written again after each run. Finished runs are skipped and interrupted ones continue, so after a crash "
        "the same command resumes.",
    )
    parser.add_argument("plan", help="baselines, labels, nephros or transfer")
    parser.option("only", "only these runs; --dry-run lists all keys (default: all)", metavar="KEY,KEY")
    parser.option("data", DATA_OPTION_HELP)
    parser.option("runs", "folder for the runs (default: runs)", metavar="DIR")
    parser.option(
        "out", "folder for the tables (default: results, or the folder of the runs with --epochs)", metavar="DIR"
    )
    parser.option("device", DEVICE_HELP)
    parser.option("epochs", "train each run for at most this many epochs, to try the plan out", int)
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
