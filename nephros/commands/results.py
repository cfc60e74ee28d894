"""nephros evaluate, report, compare and reproduce."""

from __future__ import annotations

from pathlib import Path

from nephros.commands.parser import DATA, DATA_FLAG, DEVICE, RUN, Flags


def evaluate(words: list[str]) -> int:
    """nephros evaluate"""
    flags = Flags("evaluate", "Score a trained run. Every reading of the test split is logged in the run.")
    flags.add_argument("run", help=RUN)
    flags.value("split", "val, test or train (default: val)")
    flags.value("data", f"other data than the run's own: {DATA}")
    flags.value("device", DEVICE)
    given = flags.read(words)
    from nephros.evaluation.scores_table import show_evaluation
    from nephros.workflows import evaluate as job

    show_evaluation(job.evaluate(given.pop("run"), **given))
    return 0


def report(words: list[str]) -> int:
    """nephros report"""
    flags = Flags("report", "Write a run's report.html and figures again, from what lies in its folder.")
    flags.add_argument("run", help=RUN)
    given = flags.read(words)
    from nephros.workflows.report import report as job

    print(job(given["run"]))
    return 0


def compare(words: list[str]) -> int:
    """nephros compare"""
    flags = Flags(
        "compare",
        "Set runs beside each other and, for TissueMNIST, beside published results. Of runs on the same images the best is "
        "tested against each other one: McNemar's exact test, and a paired bootstrap interval of the difference.",
    )
    flags.add_argument("runs", nargs="+", metavar="RUN", help="folders that `nephros train` made")
    flags.value("split", "test or val (default: test where every run has been scored on it)")
    flags.value("out", "also write compare.md, .csv and .html there, with a chart", shown="DIR")
    flags.switch("no-published", "leave the published results out")
    flags.switch("ensemble", "one more row: the mean of all runs' probabilities")
    given = flags.read(words)
    from nephros.reporting.comparison.page import write_comparison
    from nephros.reporting.comparison.tables import show
    from nephros.workflows.compare import compare as job

    with_published, ensemble = not given.get("no_published", False), given.get("ensemble", False)
    comparison = job(given["runs"], given.get("split"), with_published=with_published, ensemble=ensemble)
    show(comparison)
    if "out" in given:
        for path in write_comparison(comparison, Path(given["out"]).expanduser()):
            print(path)
    return 0


def reproduce(words: list[str]) -> int:
    """nephros reproduce"""
    flags = Flags(
        "reproduce",
        "Train what a plan lists and write its table. seeds: the systems of the course report and the poster, beside their "
        "published figures. labels: accuracy against the number of training images. ours: our own recipes with three seeds, "
        "their answers together, and the networks that learn from them. Runs that are over are skipped and one "
        "that was cut off goes on, so that the same command goes on after a crash; the table is written again after each run.",
    )
    flags.add_argument("plan", help="seeds, labels or ours")
    flags.value("only", "these rows alone; --dry-run lists all (default: all)", shown="KEY,KEY")
    flags.value("data", DATA_FLAG)
    flags.value("runs", "where the runs lie (default: runs)", shown="DIR")
    flags.value("out", "where the table is written (default: results; with --epochs beside the runs)", shown="DIR")
    flags.value("device", DEVICE)
    flags.value("epochs", "at most so many a run, to try the plan out", int)
    flags.switch("dry-run", "list the runs, and do nothing")
    given = flags.read(words)
    from nephros.workflows.reproduce import reproduce as job

    only = [key.strip() for key in given.pop("only", "").split(",") if key.strip()]
    for path in job(given.pop("plan"), only=only, **given):
        print(path)
    return 0
