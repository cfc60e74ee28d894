"""RUN/report.html: one self-contained page about one run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nephros.data.dataset import SPLIT_ADJECTIVES, Dataset
from nephros.evaluation.leaderboard import leaderboard
from nephros.evaluation.metrics import wilson_interval
from nephros.files import write_text
from nephros.interpretability.run_explainer import Explainer
from nephros.reporting.run import text
from nephros.reporting.run.headline import headlines
from nephros.reporting.run.run_contents import RunContents, load_run
from nephros.reporting.run.run_figures import draw_run_figures
from nephros.reporting.templates import load_template
from nephros.runs import RunFolder


def write_report(
    folder: RunFolder,
    dataset: Dataset | None = None,
    explainer: Callable[[RunFolder, Dataset], Explainer | None] | None = None,
) -> Path:
    """Write the run's report.html and figures/ (PNG and SVG) and return the page's path.

    `dataset` is the run's own data, if the caller has it open; otherwise it is opened again for the pictures of cells,
    which are left out, with a sentence on why, where that can't be done. `explainer` is asked for what gives reasons for the
    mistakes, once there are cells to show. The same run gives the same bytes.

    Raises UserError when a file of the run is damaged, or when it stopped before there was anything to show.
    """
    contents = load_run(folder)
    run_row = text.run_leaderboard_row(contents)
    rows = leaderboard([run_row]) if run_row else []
    run_figures = draw_run_figures(contents, rows, dataset, explainer)
    split = contents.headline_split
    page = load_template("run/run.html").render(
        run=contents,
        info=contents.info,
        data_title=contents.title,
        figures=run_figures,
        leaderboard=rows,
        split=split,
        split_adjectives=SPLIT_ADJECTIVES,
        headlines=headlines(contents),
        caveats=text.caveats(contents),
        never_predicted=text.never_predicted(contents, split) if split else [],
        class_rows=_class_rows(contents, split) if split else [],
        provenance_rows=text.provenance_rows(contents),
        data_provenance_rows=text.data_provenance_rows(contents.info.data, contents.info.data_request),
    )
    file = folder.file("report.html")
    write_text(file, page)
    return file


def _class_rows(contents: RunContents, split: str) -> list[dict[str, object]]:
    """Return the rows of the table by class, with 95 % Wilson intervals of the recall."""
    metrics = contents.metrics[split]
    rows = []
    for c, row in enumerate(metrics["per_class"]):
        true_positives, support = metrics["confusion_matrix"][c][c], row["support"]
        low, high = wilson_interval(true_positives, support) if support else (None, None)
        n_predicted = [line[c] for line in metrics["confusion_matrix"]]
        rows.append({**row, "name": contents.class_names[c], "low": low, "high": high, "n_predicted": sum(n_predicted)})
    return rows
