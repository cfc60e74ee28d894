"""What `nephros compare` and `nephros reproduce` parse and call."""

from __future__ import annotations

from argparse import SUPPRESS
from pathlib import Path

from nephros.commands import DATA, make_parser, parse


def compare(words: list[str]) -> int:
    """nephros compare"""
    parser = make_parser(
        "compare",
        "Set runs beside each other and, for TissueMNIST, beside published results. Of runs on the same images the best is "
        "tested against each other one: McNemar's exact test, and a paired bootstrap interval of the difference.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders that `nephros train` made")
    parser.add_argument(
        "--split", type=str, default=SUPPRESS, help="test or val (default: test where every run has been scored on it)"
    )
    parser.add_argument(
        "--out",
        type=str,
        default=SUPPRESS,
        metavar="DIR",
        help="also write compare.md, .csv and .html there, with a chart",
    )
    parser.add_argument("--no_published", action="store_true", default=SUPPRESS, help="leave the published results out")
    parser.add_argument(
        "--ensemble", action="store_true", default=SUPPRESS, help="one more row: the mean of all runs' probabilities"
    )
    given = parse(parser, words).as_dict()
    from nephros.jobs.compare import compare as job
    from nephros.reporting.compare_page import write_comparison
    from nephros.reporting.compare_tables import show

    with_published, ensemble = not given.get("no_published", False), given.get("ensemble", False)
    comparison = job(given["runs"], given.get("split"), with_published=with_published, ensemble=ensemble)
    show(comparison)
    if "out" in given:
        for path in write_comparison(comparison, Path(given["out"]).expanduser()):
            print(path)
    return 0


def reproduce(words: list[str]) -> int:
    """nephros reproduce"""
    parser = make_parser(
        "reproduce",
        "Train what a plan lists and write its table. seeds: the systems of the course report and the poster, beside their "
        "published figures. labels: accuracy against the number of training images. Runs that are over are skipped and one "
        "that was cut off goes on, so that the same command goes on after a crash; the table is written again after each run.",
    )
    parser.add_argument("plan", help="seeds or labels")
    parser.add_argument(
        "--only",
        type=str,
        default=SUPPRESS,
        metavar="KEY,KEY",
        help="these rows alone; --dry-run lists all (default: all)",
    )
    parser.add_argument("--data", type=str, default=SUPPRESS, help=f"{DATA} (default: tissuemnist)")
    parser.add_argument("--runs", type=str, default=SUPPRESS, metavar="DIR", help="where the runs lie (default: runs)")
    parser.add_argument(
        "--out", type=str, default=SUPPRESS, metavar="DIR", help="where the table is written (default: results)"
    )
    parser.add_argument("--device", type=str, default=SUPPRESS, help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--epochs", type=int, default=SUPPRESS, help="at most so many a run, to try the plan out")
    parser.add_argument("--dry_run", action="store_true", default=SUPPRESS, help="list the runs, and do nothing")
    given = parse(parser, words).as_dict()
    from nephros.jobs.reproduce import reproduce as job

    only = [key.strip() for key in given.pop("only", "").split(",") if key.strip()]
    for path in job(given.pop("plan"), only=only, **given):
        print(path)
    return 0
