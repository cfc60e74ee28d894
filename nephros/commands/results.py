"""nephros evaluate, report, compare and reproduce."""

from __future__ import annotations

from pathlib import Path

from nephros.commands.parser import DATA_HELP, DATA_OPTION_HELP, DEVICE_HELP, RUN_HELP, CommandParser


def evaluate(argv: list[str]) -> int:
    """nephros evaluate"""
    parser = CommandParser("evaluate", "Score a trained run. Every reading of the test split is logged in the run.")
    parser.add_argument("run", help=RUN_HELP)
    parser.option("split", "val, test or train (default: val)")
    parser.option("data", f"other data than the run's own: {DATA_HELP}")
    parser.option("device", DEVICE_HELP)
    args = parser.parse_argv(argv)
    from nephros.evaluation.scores_table import print_evaluation
    from nephros.workflows import evaluate as job

    print_evaluation(job.evaluate(args.pop("run"), **args))
    return 0


def report(argv: list[str]) -> int:
    """nephros report"""
    parser = CommandParser("report", "Write a run's report.html and figures again, from what lies in its folder.")
    parser.add_argument("run", help=RUN_HELP)
    args = parser.parse_argv(argv)
    from nephros.workflows.report import report as job

    print(job(args["run"]))
    return 0


def compare(argv: list[str]) -> int:
    """nephros compare"""
    parser = CommandParser(
        "compare",
        "Set runs beside each other and, for TissueMNIST, beside published results. Of runs on the same images the best is "
        "tested against each other one: McNemar's exact test, and a paired bootstrap interval of the difference.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders that `nephros train` made")
    parser.option("split", "test or val (default: test where every run has been scored on it)")
    parser.option("out", "also write compare.md, .csv and .html there, with a chart", metavar="DIR")
    parser.flag("no-published", "leave the published results out")
    parser.flag("ensemble", "one more row: the mean of all runs' probabilities")
    args = parser.parse_argv(argv)
    from nephros.reporting.comparison.page import write_comparison
    from nephros.reporting.comparison.tables import print_comparison
    from nephros.workflows.compare import compare as job

    published, ensemble = not args.get("no_published", False), args.get("ensemble", False)
    comparison = job(args["runs"], args.get("split"), published=published, ensemble=ensemble)
    print_comparison(comparison)
    if "out" in args:
        for path in write_comparison(comparison, Path(args["out"]).expanduser()):
            print(path)
    return 0


def reproduce(argv: list[str]) -> int:
    """nephros reproduce"""
    parser = CommandParser(
        "reproduce",
        "Train what a plan lists and write its table. baselines: the systems of the course report and the poster, beside their "
        "published figures. labels: accuracy against the number of training images. nephros: our own recipes with three seeds, "
        "their answers together, and the networks that learn from them. Runs that are over are skipped and one "
        "that was cut off goes on, so that the same command goes on after a crash; the table is written again after each run.",
    )
    parser.add_argument("plan", help="baselines, labels or nephros")
    parser.option("only", "these rows alone; --dry-run lists all (default: all)", metavar="KEY,KEY")
    parser.option("data", DATA_OPTION_HELP)
    parser.option("runs", "where the runs lie (default: runs)", metavar="DIR")
    parser.option("out", "where the table is written (default: results; with --epochs beside the runs)", metavar="DIR")
    parser.option("device", DEVICE_HELP)
    parser.option("epochs", "at most so many a run, to try the plan out", int)
    parser.flag("dry-run", "list the runs, and do nothing")
    args = parser.parse_argv(argv)
    from nephros.workflows.reproduce import reproduce as job

    only = [key.strip() for key in args.pop("only", "").split(",") if key.strip()]
    for path in job(args.pop("plan"), only=only, **args):
        print(path)
    return 0
