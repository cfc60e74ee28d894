"""Writing the report of a run."""

from __future__ import annotations

from pathlib import Path

from nephros.data.dataset import Dataset
from nephros.data.relocation import reopen_dataset
from nephros.runs import RunFolder


def report(run: str | Path, data: str | Path | Dataset | None = None) -> Path:
    """Write RUN/report.html and RUN/figures/ from the files of the run; return the page's path.

    Args:
        run: the run folder.
        data: the run's own data, or its path or name now; None looks for it where the run found it, and near the run folder.
            Without it, the page shows no images of cells, and says why.

    Raises:
        FileError: there is no such run, or one of its files is damaged.
        IncompleteError: the run stopped before its first epoch or evaluation.
        NephrosError: `data` can't be opened, or is not the run's.
    """
    from nephros.reporting.run.page import write_report

    folder = RunFolder.open(run)
    if isinstance(data, str | Path):
        info = folder.info()
        data = reopen_dataset(info.data_request, info.data, folder.root, data)
    return write_report(folder, data)
