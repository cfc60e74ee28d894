"""A run as Python sees it: its folder, with what can be done with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nephros.data.dataset import Dataset
from nephros.data_frames import to_data_frame
from nephros.errors import NephrosError
from nephros.evaluation.metrics import Metrics
from nephros.evaluation.scoring import Evaluation
from nephros.runs import RunFolder
from nephros.text_tables import format_number, html_table
from nephros.training.history import EpochMetrics, read_history
from nephros.workflows.evaluate import evaluate

if TYPE_CHECKING:
    from pandas import DataFrame


class Run(RunFolder):
    """A run of `nephros.train` or `nephros.finetune`; ``Run.open(FOLDER)`` opens an existing one."""

    def __init__(self, root: Path, synthetic: bool, dataset: Dataset | None = None) -> None:
        """Take the folder, and the data set that it was trained on where that was given in Python and so is not stored."""
        super().__init__(root, synthetic)
        self._dataset = dataset

    def __repr__(self) -> str:
        try:
            info, scores = self.info(), self._scores()
        except NephrosError as error:
            return f"<Run {self.root}: {error}>"
        text = ", ".join(f"{split} accuracy {metrics.accuracy:.4f}" for split, metrics in scores.items())
        return f"<Run {self.root}: {info.recipe} on {info.data['title']}, {text or info.status}>"

    def _repr_html_(self) -> str:
        """Return recipe, data and scores as a table, for notebooks."""
        try:
            info, scores = self.info(), self._scores()
        except NephrosError as error:
            return html_table(f"Run {self.root}", (), (), [str(error)])
        rows = [
            [
                split,
                f"{metrics.n:,}",
                f"{metrics.accuracy:.4f} ({metrics.accuracy_interval.low:.4f} to {metrics.accuracy_interval.high:.4f})",
                format_number(metrics.auc),
                format_number(metrics.macro_f1),
            ]
            for split, metrics in scores.items()
        ]
        headers = ("split", "images", "accuracy (95% interval)", "AUC", "macro F1")
        minutes = "" if info.training_minutes is None else f", {info.training_minutes:.1f} minutes"
        title = f"{info.recipe} on {info.data['title']}: {info.status}{minutes}"
        return html_table(title, headers, rows, [f"folder: {self.root}", *info.warnings])

    def _scores(self) -> dict[str, Metrics]:
        """Return the stored metrics of validation and test, as far as they exist."""
        names = [name for name in ("val", "test") if self.file(name, "metrics.json").is_file()]
        return {name: Metrics.from_run(self, name) for name in names}

    @property
    def report(self) -> Path:
        """The path of the run's report, a page for a browser."""
        return self.file("report.html")

    @property
    def epochs(self) -> list[EpochMetrics]:
        """The metrics of each epoch so far; empty for a classical baseline, and for a head that was fine-tuned alone."""
        path = self.file("history.csv")
        return read_history(path) if path.exists() else []

    @property
    def history(self) -> DataFrame:
        """The metrics of each epoch as a DataFrame, a row per epoch; MissingDependency without pandas."""
        epochs = self.epochs
        names = EpochMetrics.__dataclass_fields__
        return to_data_frame({name: [getattr(epoch, name) for epoch in epochs] for name in names})

    def evaluate(self, split: str = "val", data: str | Path | Dataset | None = None, **options: Any) -> Evaluation:
        """Evaluate the run's model on a split, and save the result in the folder; as `nephros.evaluate`, with its options.

        Without `data` it is the run's own, also where that was given to `nephros.train` in Python, as long as this object exists.
        """
        return evaluate(self.root, split, self._dataset if data is None else data, **options)
