"""nephros report."""

from __future__ import annotations

from nephros.commands.messages import print_path
from nephros.commands.parser import MOVED_DATA_HELP, RUN_HELP, CommandParser


def report(argv: list[str]) -> int:
    """nephros report"""
    parser = CommandParser("report", "Write a run's report.html and figures again, from the files in its folder.")
    parser.add_argument("run", help=RUN_HELP)
    parser.option("data", MOVED_DATA_HELP)
    args = parser.parse_argv(argv)
    from nephros.workflows.report import report as write_report

    print_path(write_report(**args))
    return 0
