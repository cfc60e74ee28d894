"""Every picture of a run: drawn, saved under RUN/figures/, and handed on as inline SVG for the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from nephros.data.dataset import WORD, Dataset
from nephros.data.display import png_address
from nephros.evaluation.leaderboard import Standing
from nephros.evaluation.metrics import calibration
from nephros.evaluation.scoring import Evaluation
from nephros.interpretability.reasons import Explain
from nephros.reporting.plots import classification, learning_and_roc
from nephros.reporting.plots.leaderboard_chart import standing
from nephros.reporting.plots.save import save
from nephros.reporting.run import cell_panels
from nephros.reporting.run.misclassified import exemplars, mistakes
from nephros.reporting.run.run_contents import Contents, pictures
from nephros.runs import RunFolder

ROWS, ROWS_OF_MANY, MANY = 3, 2, 12
"""Mistakes shown of a class, at most: three, or two where there are more than twelve classes, to keep the page light."""


@dataclass(frozen=True)
class ClassMistakes:
    """What a class was mistaken for."""

    name: str
    support: int
    missed: int
    picture: Markup | None
    """None when nothing was missed, or the split lacks the class."""


@dataclass(frozen=True)
class Tile:
    """The cell of a class that the model is surest of."""

    name: str
    address: str
    """A ``data:`` address of a PNG."""
    alt: str


@dataclass
class Drawings:
    """The page's pictures; None stands for one that this run has nothing for."""

    class_ratios: Markup
    learning: Markup | None = None
    confusion: Markup | None = None
    roc: Markup | None = None
    reliability: Markup | None = None
    standing: Markup | None = None
    mistakes: list[ClassMistakes] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    explained: bool = False
    """Whether mistakes have heat maps and similar training cells."""
    no_pictures: str = ""
    """Why there are no pictures of cells; empty when there are."""


class _Pen:
    """Saves figures under a run's figures/ folder and remembers which."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.written: set[str] = set()

    def __call__(self, figure: Figure, name: str, alt: str) -> Markup:
        file = self.contents.folder.file("figures", f"{name}.png")
        self.written.add(file.stem)
        return save(figure, file, f"{alt} ({self.contents.title})")

    def sweep(self) -> None:
        """Remove pictures of mistakes that an earlier report drew and this one did not."""
        pattern = self.contents.folder.file("figures", "mistakes-*").name
        for file in self.contents.folder.file("figures", "x").parent.glob(pattern):
            if file.stem not in self.written:
                file.unlink()


def draw(
    contents: Contents,
    rows: list[Standing],
    dataset: Dataset | None,
    explainer: Callable[[RunFolder, Dataset], Explain | None] | None = None,
) -> Drawings:
    """Draw and save everything that the run has numbers for; `rows` are empty where no published results fit."""
    pen = _Pen(contents)
    names, title, info = contents.names, contents.title, contents.info
    drawn = Drawings(
        pen(
            classification.class_ratios(info.class_counts, names, title),
            "class-ratios",
            "Bar chart of each class's share of the training, validation and test split",
        )
    )
    if contents.history:
        last = contents.history[-1]
        drawn.learning = pen(
            learning_and_roc.learning(
                contents.history,
                title,
                learning_and_roc.running_label(contents.recipe),
                info.chosen_epoch,
                contents.metrics.get("train"),
            ),
            "learning-curves",
            f"Accuracy, loss and learning rate over {last.epoch} epochs; validation accuracy ends at {last.val_accuracy:.3f}",
        )
    split = contents.headline
    if split is None:
        return drawn
    found = contents.evaluations[split]
    _judgement(pen, drawn, found, split)
    if rows:
        alt = f"Accuracies of {len(rows) - 1} published results and of this run, {found.accuracy:.3f}"
        drawn.standing = pen(standing(rows, split, title), "published", alt)
    dataset, drawn.no_pictures = pictures(contents, dataset)
    if dataset is not None and not np.array_equal(dataset.split(split).labels, found.labels):
        drawn.no_pictures = f"the saved predictions are not of the data's {WORD[split]} split"
    elif dataset is not None:
        explain = explainer(contents.folder, dataset) if explainer else None
        drawn.explained = explain is not None
        _cells(pen, drawn, found, split, dataset, explain)
    pen.sweep()
    return drawn


def _judgement(pen: _Pen, drawn: Drawings, found: Evaluation, split: str) -> None:
    names, title, m = pen.contents.names, pen.contents.title, found.metrics
    word = WORD[split]
    drawn.confusion = pen(
        classification.confusion(np.array(m["confusion_matrix"]), names, split, title),
        "confusion-matrix",
        f"Confusion matrix of the {word} split: {100 * found.accuracy:.1f} % of {m['n']:,} cells lie on the diagonal",
    )
    areas = [
        f"{name} {'none' if row['auc'] is None else format(row['auc'], '.3f')}"
        for name, row in zip(names, m["per_class"], strict=True)
    ]
    drawn.roc = pen(
        learning_and_roc.roc_grid(found, names, split, title),
        "roc",
        f"ROC curves of the {word} split; areas: {'; '.join(areas)}",
    )
    drawn.reliability = pen(
        classification.reliability(calibration(found.probabilities, found.labels), split, title),
        "reliability",
        f"Share right by confidence on the {word} split; expected calibration error {m['expected_calibration_error']:.3f}",
    )


def _cells(
    pen: _Pen, drawn: Drawings, found: Evaluation, split: str, dataset: Dataset, explain: Explain | None
) -> None:
    names, title = pen.contents.names, pen.contents.title
    images = dataset.split(split).images
    matrix = np.array(found.metrics["confusion_matrix"])
    most = ROWS_OF_MANY if len(names) > MANY else ROWS
    for c, name in enumerate(names):
        support = int(matrix[c].sum())
        rows = mistakes(found, c, most)
        picture = None
        if rows:
            wrong = np.array([[row.mistake.index, row.mistake.called] for row in rows])
            reasons = explain(images[wrong[:, 0]], wrong[:, 1]) if explain else None
            called = "; ".join(f"called {names[row.mistake.called]}, p {row.mistake.confidence:.2f}" for row in rows)
            beside = "each between a cell of the predicted and one of the actual class"
            picture = pen(
                cell_panels.triptychs(rows, images, names, split, title, reasons),
                f"mistakes-{c:02d}",
                f"Cells of {name} mistaken with most confidence: {called}; {beside}",
            )
        drawn.mistakes.append(ClassMistakes(name, support, support - int(matrix[c, c]), picture))
        for cell in exemplars(found, c, 1):
            said = f"called rightly with probability {cell.confidence:.2f}" if cell.right else "not called rightly"
            drawn.tiles.append(Tile(name, png_address(images[cell.index]), f"A cell of {name}, {said} ({title})"))
