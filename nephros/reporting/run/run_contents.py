"""The content of a run folder, as a report needs it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from nephros.data.dataset import Dataset
from nephros.errors import IncompatibleError, IncompleteError, NephrosError
from nephros.evaluation.held_out import HeldOutPredictions, read_held_out
from nephros.evaluation.metrics import Metrics, compute_metrics
from nephros.evaluation.scoring import Evaluation
from nephros.recipe import Recipe
from nephros.runs import RunFolder, RunInfo, TestRead
from nephros.training.classical.search_results import SearchResult, read_search_results
from nephros.training.history import EpochMetrics, read_history


@dataclass(frozen=True)
class RunContents:
    """A run, finished or not."""

    folder: RunFolder
    info: RunInfo
    recipe: Recipe
    recipe_yaml: str
    """Text of recipe.yaml."""
    history: list[EpochMetrics]
    """Empty before the end of the first epoch, and for a classical baseline."""
    search_results: list[SearchResult]
    """Hyperparameters that a classical baseline tried; empty for a network."""
    metrics: dict[str, Metrics]
    """Split -> metrics, for the splits that have been evaluated."""
    evaluations: dict[str, Evaluation]
    """Split -> metrics and predictions, for val and test if they have been evaluated."""
    test_reads: list[TestRead]

    @cached_property
    def held_out(self) -> HeldOutPredictions | None:
        """Of a fine-tuned run: predictions for its training images by models that did not see them; FileError where damaged."""
        return read_held_out(self.folder)

    @cached_property
    def cross_validation(self) -> Evaluation | None:
        """Those predictions with their metrics; FileError where their file is damaged."""
        if self.held_out is None:
            return None
        probabilities, labels, groups = self.held_out
        metrics = compute_metrics(probabilities, labels, tuple(self.class_names), groups)
        return Evaluation(metrics, probabilities, labels)

    @property
    def class_names(self) -> list[str]:
        """Class names fit for display: unprintable characters become replacement characters."""
        return [
            "".join(c if c.isprintable() else "\ufffd" for c in name) or "(no name)" for name in self.info.class_names
        ]

    @property
    def title(self) -> str:
        """Title of the data, such as ``TissueMNIST, own split``."""
        return str(self.info.data["title"])

    @property
    def is_complete(self) -> bool:
        """Whether the run is finished."""
        return self.info.status == "complete"

    @property
    def class_counts(self) -> dict[str, list[int]]:
        """Split -> images per class, without splits that have no image, as that for test of most fine-tuned runs."""
        return {split: counts for split, counts in self.info.class_counts.items() if any(counts)}

    @property
    def headline_split(self) -> str | None:
        """The split that the report is about: test if it has been evaluated, else val if that has, else None."""
        return next((split for split in ("test", "val") if split in self.evaluations), None)


def load_run(folder: RunFolder) -> RunContents:
    """Read a run folder.

    Raises:
        FileError: a file is damaged.
        IncompleteError: the run stopped before its first epoch or evaluation.
    """
    info = folder.info()
    history = read_history(folder.file("history.csv")) if folder.file("history.csv").is_file() else []
    search_results = (
        read_search_results(folder.file("search_results.csv")) if folder.file("search_results.csv").is_file() else []
    )
    evaluated_splits = [split for split in ("train", "val", "test") if folder.file(split, "metrics.json").is_file()]
    if not history and not evaluated_splits:
        raise IncompleteError(
            f"{folder.root} has nothing to report yet, because it stopped before its first epoch or evaluation: continue it with "
            f"`nephros.resume('{folder.root}')`."
        )
    evaluations = {
        split: _with_pr_auc(Evaluation.from_run(folder, split)) for split in evaluated_splits if split != "train"
    }
    metrics = {split: evaluation.metrics for split, evaluation in evaluations.items()}
    if "train" in evaluated_splits:
        metrics = {"train": Metrics.from_run(folder, "train"), **metrics}
    recipe, recipe_yaml = folder.recipe(), folder.file("recipe.yaml").read_text(encoding="utf-8")
    return RunContents(
        folder, info, recipe, recipe_yaml, history, search_results, metrics, evaluations, folder.test_reads()
    )


def _with_pr_auc(evaluation: Evaluation) -> Evaluation:
    """Return an evaluation with the areas that files of earlier versions don't hold."""
    metrics = evaluation.metrics
    if metrics.pr_auc is not None:
        return evaluation
    names = tuple(row.name for row in metrics.per_class)
    computed = compute_metrics(evaluation.probabilities, evaluation.labels, names)
    rows = tuple(
        replace(row, pr_auc=other.pr_auc) for row, other in zip(metrics.per_class, computed.per_class, strict=True)
    )
    return replace(evaluation, metrics=replace(metrics, pr_auc=computed.pr_auc, per_class=rows))


def load_run_dataset(contents: RunContents, dataset: Dataset | None) -> tuple[Dataset | None, str]:
    """Return the run's data set and an empty string, or None and the reason why it is not available.

    `dataset` is the data set if it is loaded already; otherwise it is looked for where the run found it, and near its folder.
    """
    from nephros.data.relocation import reopen_dataset

    info = contents.info
    if dataset is None and not info.data_request["source"]:
        return None, "the run was trained on data given in Python, which is not stored"
    try:
        return reopen_dataset(info.data_request, info.data, contents.folder.root, dataset), ""
    except IncompatibleError:
        return None, "the data has changed since the run (its SHA-256 differs)"
    except NephrosError as error:
        return None, f"the data can't be loaded ({str(error).rstrip('.')})"
