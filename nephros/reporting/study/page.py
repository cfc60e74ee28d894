"""A tuning study's report: one self-contained page, and its figures as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from nephros.files import write_text
from nephros.reporting.html import load_template, save_figure
from nephros.reporting.run.text import data_provenance_rows
from nephros.reporting.study import text
from nephros.reporting.study.budget import (
    BudgetCurve,
    RandomBaseline,
    compute_budget_curve,
    estimate_random_baseline,
    plot_budget_curve,
)
from nephros.reporting.study.formatting import config_name, format_metric, metric_label
from nephros.reporting.study.importance import Importance, compute_importance, plot_importance
from nephros.reporting.study.learning_curves import plot_learning_curves
from nephros.reporting.study.parallel_coordinates import plot_parallel_coordinates
from nephros.reporting.study.survival_plot import plot_survival
from nephros.reporting.study.trial_tables import best_values, config_rows, failure_rows
from nephros.reporting.study.view import StudyView
from nephros.text_tables import pluralize
from nephros.tuning.study_state import StudyState


def report_file(study_state: StudyState, folder: Path) -> Path:
    """Return the path of the page that `write_study_report` writes."""
    return folder / f"{_file_tag(study_state)}report.html"


def _file_tag(study_state: StudyState) -> str:
    """Return what every file name of the report starts with: a mark for synthetic cells."""
    return "synthetic-" if study_state.settings.data["split"] == "synthetic" else ""


def write_study_report(study_state: StudyState, folder: Path) -> Path:
    """Write report.html and figures/ (PNG and SVG) of a study, finished or not, to `folder`; return the page's path.

    Equal states give equal bytes.
    """
    view, file_tag = StudyView(study_state), _file_tag(study_state)
    budget_curve, random_baseline, importance = (
        compute_budget_curve(view),
        estimate_random_baseline(view),
        compute_importance(view),
    )
    page = load_template("study/study.html").render(
        view=view,
        settings=view.settings,
        data_title=view.data_title,
        headline=_headline(view),
        best_metrics=study_state.best_metrics,
        figures=_draw_figures(view, folder / "figures", file_tag, budget_curve, random_baseline, importance),
        caveats=text.caveats(view),
        next_steps=text.next_steps(view),
        key_figures=text.key_figures(view),
        best_values=best_values(view),
        random_baseline_notes=text.random_baseline_notes(view, budget_curve, random_baseline),
        importance_notes=text.importance_notes(importance) if isinstance(importance, Importance) else [],
        rows=config_rows(view),
        failures=failure_rows(view),
        provenance_rows=text.provenance_rows(view),
        data_provenance_rows=data_provenance_rows(view.settings.data, view.settings.data_request),
    )
    file = report_file(study_state, folder)
    write_text(file, page)
    return file


@dataclass(frozen=True)
class Headline:
    """The number at the top."""

    value: str
    unit: str
    """%, or empty."""
    label: str
    lines: list[str]


def _headline(view: StudyView) -> Headline | None:
    """Return the best configuration's accuracy on the whole validation split, or its score so far; None without one."""
    best, best_metrics = view.best, view.study_state.best_metrics
    if best is None:
        return None
    score = f"{format_metric(view, best.value, 2)} {metric_label(view)} after {pluralize(best.epochs, 'epoch')}"
    if best_metrics is None:
        value, unit, _ = format_metric(view, best.value).partition("%")
        suffix = "" if view.study_state.finished else ", best so far"
        return Headline(
            value,
            unit,
            f"{metric_label(view)}{suffix}",
            [f"configuration {config_name(best.key)}, {pluralize(best.epochs, 'epoch')}"],
        )
    interval = best_metrics.accuracy_interval
    lines = [
        f"95% interval {100 * interval.low:.1f} to {100 * interval.high:.1f}%",
        f"configuration {config_name(best.key)}; in the study: {score}",
    ]
    return Headline(
        f"{100 * best_metrics.accuracy:.1f}",
        "%",
        f"accuracy on the whole validation split, {pluralize(best_metrics.n, 'image')}",
        lines,
    )


def _draw_figures(
    view: StudyView,
    folder: Path,
    tag: str,
    budget_curve: BudgetCurve,
    random_baseline: RandomBaseline | str,
    importance: Importance | str,
) -> dict[str, Markup]:
    """Plot and save the figures for which there is data; return name -> inline SVG."""
    figures: dict[str, Markup] = {}

    def add_figure(figure: Figure, name: str, alt: str) -> None:
        figures[name] = save_figure(figure, folder / f"{tag}{name}.png", f"{alt} ({view.data_title})")

    metric_text = metric_label(view)
    configs_text = pluralize(len(view.statuses), "configuration")
    add_figure(plot_survival(view), "survival", text.survival_alt_text(view))
    if any(config.values for config in view.configs):
        add_figure(
            plot_learning_curves(view),
            "learning-curves",
            f"Learning curves of {configs_text}: {metric_text} by epoch, one panel per bracket",
        )
        fields = ", ".join(dimension.key for dimension in view.space)
        alt = f"Lines of {configs_text} through {fields}, epochs trained and {metric_text}"
        add_figure(plot_parallel_coordinates(view), "parallel-coordinates", alt)
    if view.best is not None:
        best_text = format_metric(view, view.best.value)
        alt = f"Scores by epochs spent, {budget_curve.total_epochs:,} in all; the best is {best_text}"
        add_figure(plot_budget_curve(view, budget_curve, random_baseline), "epochs-spent", alt)
    if isinstance(importance, Importance):
        shares = ", ".join(f"{key} {100 * share:.0f}%" for key, share in importance.shares.items())
        add_figure(
            plot_importance(importance, view.data_title), "importance", f"Importance of the searched fields: {shares}"
        )
    return figures
