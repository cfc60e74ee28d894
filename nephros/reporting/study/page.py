"""A tuning study's report: one self-contained page, with its figures beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from nephros.files import write_text
from nephros.reporting.plots.save import save
from nephros.reporting.run.text import provenance
from nephros.reporting.study import text
from nephros.reporting.study.budget import RandomSearch, Spending, budget, random_search, spending
from nephros.reporting.study.formatting import counted, metric, named, shown
from nephros.reporting.study.importance import Importance, importance, importances
from nephros.reporting.study.learning_curves import learning
from nephros.reporting.study.parallel_coordinates import parallel
from nephros.reporting.study.survival_plot import flow
from nephros.reporting.study.trial_tables import best_values, failures, rows
from nephros.reporting.study.view import View
from nephros.reporting.templates import template
from nephros.tuning.study_state import Records


def write_study_report(records: Records, folder: Path, file_tag: str = "") -> Path:
    """Write report.html and figures/ (PNG and SVG) of a study, finished or not, to `folder`; return the page's path.

    `file_tag` goes before the name of every file: ``synthetic-`` for made-up cells. Equal records give equal bytes.
    """
    view = View(records)
    spent, rival, hangs = spending(view), random_search(view), importance(view)
    page = template("study/study.html").render(
        view=view,
        settings=view.settings,
        title=view.title,
        headline=_headline(view),
        judged=records.judged,
        drawn=_draw(view, folder / "figures", file_tag, spent, rival, hangs),
        caveats=text.caveats(view),
        on=text.on(view),
        numbers=text.numbers(view),
        best=best_values(view),
        compared=text.compared(view, spent, rival),
        hanging=text.hanging(view, hangs),
        rows=rows(view),
        failures=failures(view),
        making=text.making(view),
        provenance=provenance(view.settings.data, view.settings.request),
    )
    file = folder / f"{file_tag}report.html"
    write_text(file, page)
    return file


@dataclass(frozen=True)
class Headline:
    """The number at the top."""

    value: str
    unit: str
    """%, or empty."""
    what: str
    lines: list[str]


def _headline(view: View) -> Headline | None:
    """Return what the best configuration came to on all of validation, or else its score so far; None before there is one."""
    best, judged = view.best, view.records.judged
    if best is None:
        return None
    score = f"{shown(view, best.value, 2)} {metric(view)} after {counted(best.epochs, 'epoch')}"
    if judged is None:
        value, _, unit = shown(view, best.value).partition(" ")
        state = "" if view.records.over else ", best so far"
        return Headline(
            value, unit, f"{metric(view)}{state}", [f"configuration {named(best.key)}, {counted(best.epochs, 'epoch')}"]
        )
    interval = judged["accuracy_interval"]
    lines = [
        f"95 % interval {100 * interval['low']:.1f} to {100 * interval['high']:.1f} %",
        f"configuration {named(best.key)}; in the study {score}",
    ]
    return Headline(
        f"{100 * judged['accuracy']:.1f}", "%", f"accuracy on all of validation, {counted(judged['n'], 'cell')}", lines
    )


def _draw(
    view: View, folder: Path, tag: str, spent: Spending, rival: RandomSearch | str, hangs: Importance | str
) -> dict[str, Markup]:
    """Draw and save what there is something to draw of; return name -> inline SVG."""
    drawn: dict[str, Markup] = {}

    def pen(figure: Figure, name: str, alt: str) -> None:
        drawn[name] = save(figure, folder / f"{tag}{name}.png", f"{alt} ({view.title})")

    said = metric(view)
    tried = counted(len(view.fates), "configuration")
    pen(flow(view), "survival", text.survived(view))
    if any(config.values for config in view.configs):
        pen(learning(view), "learning-curves", f"Curves of {said} by epoch of {tried}, a panel a bracket")
        fields = ", ".join(dimension.key for dimension in view.space)
        alt = f"Lines of {tried} through {fields}, epochs trained and {said}"
        pen(parallel(view), "parallel-coordinates", alt)
    if view.best is not None:
        alt = f"Scores by epochs spent, {spent.total:,} in all; the best comes to {shown(view, view.best.value)}"
        pen(budget(view, spent, rival), "epochs-spent", alt)
    if isinstance(hangs, Importance):
        shares = ", ".join(f"{key} {100 * share:.0f} %" for key, share in hangs.shares.items())
        pen(importances(hangs, view.title), "importance", f"Importance of the searched fields: {shares}")
    return drawn
