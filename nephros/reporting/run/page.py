"""RUN/report.html: one self-contained page about one run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nephros.data.dataset import WORD, Dataset
from nephros.evaluation.leaderboard import standings
from nephros.evaluation.metrics import wilson_interval
from nephros.files import write_text
from nephros.interpretability.reasons import Explain
from nephros.reporting.run import text
from nephros.reporting.run.headline import headlines
from nephros.reporting.run.run_contents import Contents, gather
from nephros.reporting.run.run_figures import draw
from nephros.reporting.templates import template
from nephros.runs import RunFolder


def write_report(
    folder: RunFolder,
    dataset: Dataset | None = None,
    explainer: Callable[[RunFolder, Dataset], Explain | None] | None = None,
) -> Path:
    """Write the run's report.html and figures/ (PNG and SVG) and return the page's path.

    `dataset` is the run's own data, if the caller has it open; otherwise it is opened again for the pictures of cells,
    which are left out, with a sentence on why, where that can't be done. `explainer` is asked for what gives reasons for the
    mistakes, once there are cells to show. The same run gives the same bytes.

    Raises UserError when a file of the run is damaged, or when it stopped before there was anything to show.
    """
    contents = gather(folder)
    own = text.own_standing(contents)
    rows = standings([own]) if own else []
    drawn = draw(contents, rows, dataset, explainer)
    split = contents.headline
    page = template("run/run.html").render(
        contents=contents,
        info=contents.info,
        title=contents.title,
        drawn=drawn,
        rows=rows,
        split=split,
        word=WORD,
        heads=headlines(contents),
        caveats=text.caveats(contents),
        never=text.never_called(contents, split) if split else [],
        classes=_classes(contents, split) if split else [],
        making=text.making(contents),
        provenance=text.provenance(contents.info.data, contents.info.request),
    )
    file = folder.file("report.html")
    write_text(file, page)
    return file


def _classes(contents: Contents, split: str) -> list[dict[str, object]]:
    """Return the rows of the table by class, with 95 % Wilson intervals of the recall."""
    m = contents.metrics[split]
    rows = []
    for c, row in enumerate(m["per_class"]):
        hit, support = m["confusion_matrix"][c][c], row["support"]
        low, high = wilson_interval(hit, support) if support else (None, None)
        called = [line[c] for line in m["confusion_matrix"]]
        rows.append({**row, "name": contents.names[c], "low": low, "high": high, "called": sum(called)})
    return rows
