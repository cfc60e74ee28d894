"""Writing the report of a run."""

from __future__ import annotations

from pathlib import Path

from nephros.data.dataset import Dataset
from nephros.runs import RunFolder


def report(run: str | Path, data: Dataset | None = None) -> Path:
    """Write RUN/report.html and RUN/figures/ from the files of the run; return the page's path.

    `data` is the run's own data if it is loaded already; otherwise it is loaded again to show images of cells.

    Raises:
        FileError: there is no such run, or one of its files is damaged.
        IncompleteError: the run stopped before its first epoch or evaluation.
    """
    from nephros.reporting.run.page import write_report

    return write_report(RunFolder.open(run), data)
