"""RUN/report.html: one self-contained page about one run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nephros.data.dataset import Dataset
from nephros.data.split import SPLIT_ADJECTIVES
from nephros.evaluation.intervals import wilson_interval
from nephros.evaluation.leaderboard import leaderboard
from nephros.evaluation.metrics import ClassMetrics
from nephros.files import write_text
from nephros.reporting.class_names import short_class_names
from nephros.reporting.html import load_template
from nephros.reporting.run import text
from nephros.reporting.run.headline import headlines
from nephros.reporting.run.mistakes import VISIBLE_MISTAKES, tile_headings
from nephros.reporting.run.next_steps import next_steps
from nephros.reporting.run.run_contents import RunContents, load_run
from nephros.reporting.run.run_figures import draw_run_figures
from nephros.runs import RunFolder


def write_report(folder: RunFolder, dataset: Dataset | None = None) -> Path:
    """Write the run's report.html and figures/ (PNG and SVG) and return the page's path.

    `dataset` is the run's own data if it is loaded already; otherwise it is loaded again. If that fails, the page has no
    images of cells and says why. The same run gives the same bytes.

    Raises:
        FileError: a file of the run is damaged.
        IncompleteError: the run stopped before its first epoch or evaluation.
    """
    contents = load_run(folder)
    run_row = text.run_leaderboard_row(contents)
    rows = leaderboard([run_row]) if run_row else []
    run_figures = draw_run_figures(contents, rows, dataset)
    split = contents.headline_split
    page = load_template("run/run.html").render(
        run=contents,
        info=contents.info,
        data_title=contents.title,
        figures=run_figures,
        leaderboard=rows,
        split=split,
        finetuning=run_figures.finetuning,
        split_adjectives=SPLIT_ADJECTIVES,
        headlines=headlines(contents),
        training=text.describe_training(contents),
        caveats=text.caveats(contents),
        worst_confusions=text.describe_worst_confusions(contents, split) if split else "",
        short_names=short_class_names(contents.class_names),
        tile_headings=tile_headings(run_figures.has_explanations),
        n_visible=VISIBLE_MISTAKES,
        next_steps=next_steps(contents),
        class_rows=_class_rows(contents, split) if split else [],
        provenance_rows=text.provenance_rows(contents),
        data_provenance_rows=text.data_provenance_rows(contents.info.data, contents.info.data_request),
    )
    file = folder.file("report.html")
    write_text(file, page)
    return file


@dataclass(frozen=True)
class _ClassRow:
    """One row of the table of per-class metrics."""

    name: str
    metrics: ClassMetrics
    interval: tuple[float, float] | None
    """95% Wilson interval of the recall; None where the split lacks the class."""
    n_predicted: int
    """Cells predicted as the class."""


def _class_rows(contents: RunContents, split: str) -> list[_ClassRow]:
    metrics = contents.metrics[split]
    rows = []
    for c, (name, row) in enumerate(zip(contents.class_names, metrics.per_class, strict=True)):
        interval = wilson_interval(metrics.confusion_matrix[c][c], row.support) if row.support else None
        rows.append(_ClassRow(name, row, interval, sum(line[c] for line in metrics.confusion_matrix)))
    return rows
