"""The report of a run."""

from __future__ import annotations

from pathlib import Path

from nephros.data.dataset import Dataset
from nephros.runs import RunFolder


def report(run: str | Path, data: Dataset | None = None) -> Path:
    """Write RUN/report.html and RUN/figures/ again from what lies in the run folder; return the page's path.

    `data` is the run's own data where it is open already; otherwise it is opened again for the pictures of cells.
    Raises UserError when there is no such run, a file of it is damaged, or it has nothing to show yet.
    """
    from nephros.interpretability.run_explainer import build_run_explainer
    from nephros.reporting.run.page import write_report

    return write_report(RunFolder.open(run), data, build_run_explainer)
