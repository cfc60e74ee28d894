"""The report of a run."""

from __future__ import annotations

from pathlib import Path

from nephros.runs import RunFolder


def report(run: str | Path) -> Path:
    """Write RUN/report.html and RUN/figures/ again from what lies in the run folder; return the page's path."""
    from nephros.report.page import write_report

    return write_report(RunFolder.open(run))
