"""What a run folder holds that a report can show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nephros.data.dataset import Dataset
from nephros.errors import NephrosError
from nephros.evaluation.scoring import Evaluation
from nephros.recipe import Recipe
from nephros.recipe_io import read_recipe
from nephros.runs import RunFolder, RunInfo
from nephros.training.classical.search_results import SearchResult
from nephros.training.classical.search_results import read_search_results as tried_from_csv
from nephros.training.history import EpochMetrics, read_history


@dataclass(frozen=True)
class RunContents:
    """A run, finished or not, as far as it came."""

    folder: RunFolder
    info: RunInfo
    recipe: Recipe
    recipe_yaml: str
    """recipe.yaml as it lies in the folder."""
    history: list[EpochMetrics]
    """Empty before the first epoch is over, and for a classical baseline."""
    search_results: list[SearchResult]
    """What a classical baseline tried; empty for a network."""
    metrics: dict[str, dict[str, Any]]
    """Split -> metrics.json, for those of train, val and test that have been scored."""
    evaluations: dict[str, Evaluation]
    """Split -> metrics with predictions, for val and test."""
    test_reads: list[dict[str, Any]]
    """One entry for each reading of the test split."""

    @property
    def class_names(self) -> list[str]:
        """Class names fit to be drawn: a character that can't be printed becomes a replacement mark."""
        return [
            "".join(c if c.isprintable() else "\ufffd" for c in name) or "(no name)" for name in self.info.class_names
        ]

    @property
    def title(self) -> str:
        """The data's provenance, such as ``TissueMNIST, own split``."""
        return str(self.info.data["title"])

    @property
    def is_complete(self) -> bool:
        """Whether the run came to its end."""
        return self.info.status == "complete"

    @property
    def headline_split(self) -> str | None:
        """The split that the report is about: test if it has been scored, else val if that has, else None."""
        return next((split for split in ("test", "val") if split in self.evaluations), None)


def load_run(folder: RunFolder) -> RunContents:
    """Read a run folder.

    Raises UserError when a file in it is damaged, or when the run stopped before there was anything to show.
    """
    info = folder.info()
    history = read_history(folder.file("history.csv")) if folder.file("history.csv").is_file() else []
    search_results = (
        tried_from_csv(folder.file("search_results.csv")) if folder.file("search_results.csv").is_file() else []
    )
    scored_splits = [split for split in ("train", "val", "test") if folder.file(split, "metrics.json").is_file()]
    if not history and not scored_splits:
        raise NephrosError(
            f"{folder.root} has nothing to report yet, since it stopped before there was anything to judge: "
            f"resume it with `nephros train --resume {folder.root}`."
        )
    evaluations = {split: Evaluation.from_run(folder, split) for split in scored_splits if split != "train"}
    metrics = {split: evaluation.metrics for split, evaluation in evaluations.items()}
    if "train" in scored_splits:
        metrics = {"train": folder.metrics("train"), **metrics}
    file = folder.file("recipe.yaml")
    recipe, recipe_yaml = read_recipe(file), file.read_text(encoding="utf-8")
    return RunContents(
        folder, info, recipe, recipe_yaml, history, search_results, metrics, evaluations, folder.test_reads()
    )


def load_run_dataset(contents: RunContents, dataset: Dataset | None) -> tuple[Dataset | None, str]:
    """Return the run's data set if it is at hand, and otherwise None with a sentence that says why not.

    `dataset` is the open one, if the caller has it; it is opened by the run's own request otherwise.
    """
    from nephros.data.load import load

    info = contents.info
    if dataset is None:
        if not info.data_request["source"]:
            return None, "the run was trained on data given in Python, which is not kept"
        try:
            dataset = load(**info.data_request)
        except NephrosError as error:
            return None, f"the data is not at hand ({str(error).rstrip('.')})"
    if dataset.provenance.sha256 != info.data["sha256"]:
        return None, "the data has changed since the run: its SHA-256 is another"
    return dataset, ""
