"""The figures of a run: drawn, saved under RUN/figures/, and returned as inline SVG for the page."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from nephros.data.dataset import SPLIT_ADJECTIVES, Dataset
from nephros.data.images.transforms import png_data_uri
from nephros.evaluation.leaderboard import LeaderboardRow
from nephros.evaluation.metrics import calibration_curve
from nephros.evaluation.scoring import Evaluation
from nephros.interpretability.run_explainer import Explainer, build_run_explainer
from nephros.reporting.html import save_figure
from nephros.reporting.plots import classification
from nephros.reporting.plots.accuracy_charts import plot_leaderboard
from nephros.reporting.plots.training_curves import plot_learning_curves, train_curve_label
from nephros.reporting.run.misclassified import most_confident_correct, most_confident_errors, plot_misclassified
from nephros.reporting.run.run_contents import RunContents, load_run_dataset
from nephros.text_tables import format_number

MAX_ERRORS, MAX_ERRORS_MANY_CLASSES, MANY_CLASSES = 3, 2, 12
"""Errors shown per class: up to three, or two if there are more than twelve classes, to keep the page small."""


@dataclass(frozen=True)
class ClassErrors:
    """The errors on one class."""

    name: str
    support: int
    n_errors: int
    figure: Markup | None
    """The most confident ones; None when there is nothing to show."""


@dataclass(frozen=True)
class ExampleCell:
    """The cell of a class that is classified with most confidence."""

    class_name: str
    data_uri: str
    """The image, a PNG."""
    alt: str


@dataclass
class RunFigures:
    """The figures of the page; None for one that the run has no data for."""

    class_balance: Markup
    learning_curves: Markup | None = None
    confusion_matrix: Markup | None = None
    roc_curves: Markup | None = None
    reliability_diagram: Markup | None = None
    leaderboard: Markup | None = None
    class_errors: list[ClassErrors] = field(default_factory=list)
    example_cells: list[ExampleCell] = field(default_factory=list)
    has_explanations: bool = False
    """Whether errors come with heat maps and similar training cells."""
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
            classification.plot_class_balance(info.class_counts, class_names, title),
            "class-balance",
            "Share of each class in the training, validation and test split",
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
    dataset, run_figures.no_cells_reason = load_run_dataset(contents, dataset)
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
        f"Confusion matrix of the {split_name} split: {100 * evaluation.accuracy:.1f}% of {metrics.n:,} cells lie on "
        "the diagonal",
    )
    aucs = [
        f"{name} {format_number(row.auc, 3, missing='none')}"
        for name, row in zip(class_names, metrics.per_class, strict=True)
    ]
    run_figures.roc_curves = writer(
        classification.plot_roc_curves(evaluation, class_names, split, title),
        "roc",
        f"ROC curves of the {split_name} split; AUC: {'; '.join(aucs)}",
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
    images = dataset.split(split).images
    matrix = np.array(evaluation.metrics.confusion_matrix)
    limit = MAX_ERRORS_MANY_CLASSES if len(class_names) > MANY_CLASSES else MAX_ERRORS
    for c, name in enumerate(class_names):
        support = int(matrix[c].sum())
        rows = most_confident_errors(evaluation, c, limit)
        figure = None
        if rows:
            errors = np.array([[row.cell.index, row.cell.predicted] for row in rows])
            explanations = explain(images[errors[:, 0]], errors[:, 1]) if explain else None
            predictions = "; ".join(
                f"predicted {class_names[row.cell.predicted]}, p {row.cell.confidence:.2f}" for row in rows
            )
            layout = "each between a cell of the predicted class and one of the actual class"
            figure = writer(
                plot_misclassified(rows, images, class_names, split, title, explanations),
                f"errors-{c:02d}",
                f"Most confident errors on {name}: {predictions}; {layout}",
            )
        run_figures.class_errors.append(ClassErrors(name, support, support - int(matrix[c, c]), figure))
        for cell in most_confident_correct(evaluation, c, 1):
            caption = (
                f"correctly classified with probability {cell.confidence:.2f}" if cell.is_correct else "misclassified"
            )
            run_figures.example_cells.append(
                ExampleCell(name, png_data_uri(images[cell.index]), f"A cell of {name}, {caption} ({title})")
            )
