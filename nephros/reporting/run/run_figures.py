"""The figures of a run: drawn, saved under RUN/figures/, and returned as inline SVG for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from nephros.data.dataset import Dataset
from nephros.data.split import SPLIT_ADJECTIVES
from nephros.data.volumes import IndexedImages, SlicesTiles
from nephros.escaping import without_folders
from nephros.evaluation.leaderboard import LeaderboardRow
from nephros.evaluation.metrics import calibration_curve
from nephros.evaluation.scoring import Evaluation
from nephros.interpretability.run_explainer import CellExplanation, Explainer, build_run_explainer
from nephros.reporting.html import save_figure
from nephros.reporting.plots import classification
from nephros.reporting.plots.accuracy_charts import plot_leaderboard
from nephros.reporting.plots.ranking_curves import plot_ranking_curves
from nephros.reporting.plots.training_curves import plot_learning_curves, train_curve_label
from nephros.reporting.run.finetuning import FinetuningReview, review_finetuning
from nephros.reporting.run.misclassified import most_confident_correct, most_confident_errors, plot_misclassified
from nephros.reporting.run.mistakes import ClassErrors, Tile, example_tile, make_mistake, mistakes_per_class
from nephros.reporting.run.run_contents import RunContents, load_run_dataset
from nephros.reporting.run.text import known_paths
from nephros.text_tables import format_number

MAX_ERRORS_IN_FIGURE = 3
"""Most errors per class in figures/errors-NN.png; the page has them as text and images."""


@dataclass(frozen=True)
class ExampleCell:
    """The cell of a class that is classified with most confidence."""

    class_name: str
    tile: Tile


@dataclass
class RunFigures:
    """The figures of the page; None for one that the run has no data for."""

    class_balance: Markup
    learning_curves: Markup | None = None
    confusion_matrix: Markup | None = None
    ranking_curves: Markup | None = None
    reliability_diagram: Markup | None = None
    leaderboard: Markup | None = None
    class_errors: list[ClassErrors] = field(default_factory=list)
    example_cells: list[ExampleCell] = field(default_factory=list)
    has_explanations: bool = False
    """Whether mistakes come with heat maps and similar training cells."""
    has_image_names: bool = False
    """Whether the images of the split have names of their own."""
    finetuning: FinetuningReview | None = None
    """Of a fine-tuned run."""
    no_cells_reason: str = ""
    """Why no cells are shown; empty when they are."""


class FigureWriter:
    """Saves figures in a run's figures/ folder and keeps track of them."""

    def __init__(self, contents: RunContents) -> None:
        self.contents = contents
        self.written_stems: set[str] = set()

    def __call__(self, figure: Figure, name: str, alt: str) -> Markup:
        file = self.contents.folder.file("figures", f"{name}.png")
        self.written_stems.add(file.stem)
        return save_figure(figure, file, f"{alt} ({self.contents.title})")

    def remove_stale(self) -> None:
        """Remove the figures of errors that an earlier report drew and this one did not."""
        pattern = self.contents.folder.file("figures", "errors-*").name
        for file in self.contents.folder.file("figures", "x").parent.glob(pattern):
            if file.stem not in self.written_stems:
                file.unlink()


def draw_run_figures(
    contents: RunContents,
    rows: list[LeaderboardRow],
    dataset: Dataset | None,
) -> RunFigures:
    """Draw and save every figure that the run has data for; `rows` is empty where there are no published results."""
    writer = FigureWriter(contents)
    class_names, title, info = contents.class_names, contents.title, contents.info
    run_figures = RunFigures(
        writer(
            classification.plot_class_balance(contents.class_counts, class_names, title),
            "class-balance",
            "Share of each class in each split",
        )
    )
    if contents.history:
        last = contents.history[-1]
        run_figures.learning_curves = writer(
            plot_learning_curves(
                contents.history,
                title,
                train_curve_label(contents.recipe),
                info.chosen_epoch,
                contents.metrics.get("train"),
            ),
            "learning-curves",
            f"Accuracy, loss and learning rate over {last.epoch} epochs; validation accuracy ends at {last.val_accuracy:.3f}",
        )
    split = contents.headline_split
    if split is None:
        return run_figures
    evaluation = contents.evaluations[split]
    _draw_evaluation(writer, run_figures, evaluation, split)
    if rows:
        alt = f"Accuracy of {len(rows) - 1} published results and of this run, {evaluation.accuracy:.3f}"
        run_figures.leaderboard = writer(plot_leaderboard(rows, split, title), "leaderboard", alt)
    dataset, reason = load_run_dataset(contents, dataset)
    run_figures.no_cells_reason = without_folders(reason, known_paths(contents))
    run_figures.finetuning = review_finetuning(contents, dataset)
    if dataset is not None and not np.array_equal(dataset.split(split).labels, evaluation.labels):
        run_figures.no_cells_reason = f"the stored predictions do not match the data's {SPLIT_ADJECTIVES[split]} split"
    elif dataset is not None:
        explain = build_run_explainer(contents.folder, dataset)
        run_figures.has_explanations = explain is not None
        _draw_cells(writer, run_figures, evaluation, split, dataset, explain)
    writer.remove_stale()
    return run_figures


def _draw_evaluation(writer: FigureWriter, run_figures: RunFigures, evaluation: Evaluation, split: str) -> None:
    class_names, title, metrics = writer.contents.class_names, writer.contents.title, evaluation.metrics
    split_name = SPLIT_ADJECTIVES[split]
    run_figures.confusion_matrix = writer(
        classification.plot_confusion_matrix(np.array(metrics.confusion_matrix), class_names, split, title),
        "confusion-matrix",
        f"Confusion matrix of the {split_name} split: {100 * evaluation.accuracy:.1f}% of {metrics.n:,} images lie on "
        "the diagonal",
    )
    areas = [
        f"{name} {format_number(row.auc, 3, missing='none')} and {format_number(row.pr_auc, 3, missing='none')}"
        for name, row in zip(class_names, metrics.per_class, strict=True)
    ]
    run_figures.ranking_curves = writer(
        plot_ranking_curves(evaluation, class_names, split, title),
        "roc-pr",
        f"ROC and precision-recall curves of the {split_name} split; AUC and PR-AUC: {'; '.join(areas)}",
    )
    run_figures.reliability_diagram = writer(
        classification.plot_reliability_diagram(
            calibration_curve(evaluation.probabilities, evaluation.labels), split, title
        ),
        "reliability",
        f"Accuracy by confidence on the {split_name} split; expected calibration error "
        f"{metrics.expected_calibration_error:.3f}",
    )


def _draw_cells(
    writer: FigureWriter,
    run_figures: RunFigures,
    evaluation: Evaluation,
    split: str,
    dataset: Dataset,
    explain: Explainer | None,
) -> None:
    class_names, title = writer.contents.class_names, writer.contents.title
    images, image_names = dataset.split(split).images, dataset.split(split).names
    displayed: IndexedImages = SlicesTiles(images) if dataset.is_volumetric else images
    run_figures.has_image_names = image_names is not None
    matrix = np.array(evaluation.metrics.confusion_matrix)
    limit = mistakes_per_class(len(class_names))
    for c, name in enumerate(class_names):
        support = int(matrix[c].sum())
        rows = most_confident_errors(evaluation, c, limit)
        explanations: Sequence[CellExplanation | None] = [None] * len(rows)
        if rows:
            errors = np.array([[row.cell.index, row.cell.predicted] for row in rows])
            explained = explain(images[errors[:, 0]], errors[:, 1]) if explain else None
            explanations = explained or explanations
            n = MAX_ERRORS_IN_FIGURE
            figure = plot_misclassified(
                rows[:n], displayed, class_names, split, title, explained and explained[:n], image_names
            )
            writer(figure, f"errors-{c:02d}", f"Most confident errors on {name}")
        mistakes = [
            make_mistake(row, displayed, class_names, explanation, title, image_names)
            for row, explanation in zip(rows, explanations, strict=True)
        ]
        typical = [example_tile(cell, displayed, name, title) for cell in most_confident_correct(evaluation, c, 1)]
        run_figures.class_errors.append(
            ClassErrors(name, support, support - int(matrix[c, c]), typical[0] if typical else None, mistakes)
        )
        run_figures.example_cells += [ExampleCell(name, tile) for tile in typical]
