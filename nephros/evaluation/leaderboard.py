"""Runs and published results ranked beside one another."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from nephros.data.split import SPLIT_ADJECTIVES
from nephros.evaluation.metrics import Metrics
from nephros.evaluation.significance import PairedComparison
from nephros.recipe import Recipe
from nephros.runs import RunInfo

PUBLISHED_DATASET = "tissuemnist"
"""MedMNIST key of the data set that the published results are on."""


@dataclass(frozen=True)
class PublishedResult:
    """One published result."""

    method: str
    input: str
    """Side of the image in pixels, with any padding."""
    accuracy: float
    """On the test split, as a fraction."""
    accuracy_sd: float | None
    """Standard deviation over seeds; None where none was published."""
    auc: float | None
    """Mean one-vs-rest AUC; None where none was published."""
    macro_f1: float | None
    """Unweighted mean over classes; None where none was published."""
    loss: float | None
    """As printed, whatever it was divided by; None where none was published."""
    loss_batch_size: float | None
    """Factor, inferred, that turns the printed loss into a mean per image; None where there is no loss."""
    split: str
    """``official``, or ``another`` where it was not MedMNIST's split."""
    recipe: str
    """The recipe that trains the same model here; empty where there is none."""
    headline: bool
    """Whether charts show it: its source's best, or only, result of the kind."""
    source: str
    url: str
    """Address of the source, of a paper its DOI; empty where there is none."""
    note: str

    @property
    def implied_loss(self) -> float | None:
        """The mean cross-entropy per image, in nats, that the printed loss implies."""
        return None if self.loss is None or self.loss_batch_size is None else self.loss * self.loss_batch_size


@cache
def published_results() -> tuple[PublishedResult, ...]:
    """Return every row of published.csv, in its order."""
    text = (resources.files("nephros.evaluation") / "published.csv").read_text(encoding="utf-8")
    return tuple(_parse_row(values) for values in csv.DictReader(text.splitlines()))


def _parse_row(fields: dict[str, str]) -> PublishedResult:
    parsed: dict[str, Any] = dict(fields)
    for key in ("accuracy_sd", "auc", "macro_f1", "loss", "loss_batch_size"):
        parsed[key] = float(fields[key]) if fields[key] else None
    return PublishedResult(
        **(parsed | {"accuracy": float(fields["accuracy"]), "headline": fields["headline"] == "yes"})
    )


@dataclass(frozen=True)
class LeaderboardRow:
    """A run's result or a published one. None and empty strings mean unknown."""

    method: str
    input: str
    """Side of the image in pixels."""
    accuracy: float
    split: str
    """Such as ``official test``."""
    source: str
    """Who published it, or the command that trained the run."""
    low: float | None = None
    high: float | None = None
    """Ends of the interval that `interval` names."""
    interval: str = ""
    """``95%`` (a run's confidence interval) or ``1 sd`` (plus and minus one published standard deviation)."""
    auc: float | None = None
    macro_f1: float | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    """Per image, over all its views."""
    training_minutes: float | None = None
    device: str = ""
    checkpoint: str = ""
    """Which weights were kept, and by which criterion."""
    url: str = ""
    note: str = ""
    is_run: bool = False
    """Whether it is a run, or an ensemble of runs; False for a published result."""
    is_ensemble: bool = False
    dataset: str = ""
    """Title of the data set in a comparison."""
    training_subset: str = ""
    """Such as ``subset: 1,000 of 165,466 training images``; empty where all were used."""

    @property
    def label(self) -> str:
        """The method, with the subset that it was trained on, if it was one."""
        return f"{self.method}, {self.training_subset}" if self.training_subset else self.method


@dataclass(frozen=True)
class DatasetComparison:
    """Results on one split of one data set: they alone are ranked and tested against one another."""

    title: str
    """Title of the data, such as ``TissueMNIST, own split``; unlike that of any other data set in the comparison."""
    rows: list[LeaderboardRow]
    """Runs and published results, by falling accuracy."""
    paired_tests: list[tuple[str, str, PairedComparison]]
    """(name of the best run, name of another run on the same images, how the best compares with it)."""
    notes: list[str]
    """Caveats on the comparability of the rows."""

    @property
    def run_rows(self) -> list[LeaderboardRow]:
        """The runs, by falling accuracy."""
        return [row for row in self.rows if row.is_run]


@dataclass(frozen=True)
class Comparison:
    """Runs beside one another and beside published results, by data set: what `nephros.compare` returns."""

    split: str
    """test or val."""
    datasets: list[DatasetComparison]
    """One per data set, in the order in which the runs name them."""
    general_notes: list[str] = field(default_factory=list)
    """Caveats on all results."""

    @property
    def title(self) -> str:
        """Titles of the data sets, joined by semicolons."""
        return "; ".join(dataset.title for dataset in self.datasets)

    @property
    def rows(self) -> list[LeaderboardRow]:
        """The rows of every data set, one data set after another."""
        return [row for dataset in self.datasets for row in dataset.rows]

    @property
    def paired_tests(self) -> list[tuple[str, str, PairedComparison]]:
        """The paired tests within every data set."""
        return [test for dataset in self.datasets for test in dataset.paired_tests]

    @property
    def notes(self) -> list[str]:
        """All caveats; with more than one data set, those on one of them start with its title."""
        several = len(self.datasets) > 1
        return self.general_notes + [
            f"{dataset.title}: {note}" if several else note for dataset in self.datasets for note in dataset.notes
        ]


def row_from_run(
    info: RunInfo, recipe: Recipe, metrics: Metrics, split: str, method: str, source: str
) -> LeaderboardRow:
    """Return a run's row, from its metrics on `split`."""
    input_spec, interval = info.input_spec, metrics.accuracy_interval
    height, width = input_spec["height"], input_spec["width"]
    return LeaderboardRow(
        method=method,
        input=f"{height}" if height == width else f"{height} x {width}",
        accuracy=metrics.accuracy,
        split=f"{info.data['split']} {SPLIT_ADJECTIVES[split]}",
        source=source,
        low=interval.low,
        high=interval.high,
        interval=f"{100 * interval.level:g}%",
        auc=metrics.auc,
        macro_f1=metrics.macro_f1,
        parameters=info.parameters,
        multiply_adds=info.multiply_adds * info.tta_views,
        training_minutes=info.training_minutes,
        device=info.device,
        checkpoint=_describe_checkpoint(info, recipe),
        note=f"95% interval of {metrics.n:,} cells" + ("" if split == "test" else "; not the test split"),
        is_run=True,
        training_subset=info.training_subset,
    )


def _describe_checkpoint(info: RunInfo, recipe: Recipe) -> str:
    if recipe.is_classical:
        return f"best {recipe.metric}: {info.hyperparameters}"
    if info.finetuning is not None and info.chosen_epoch is None:
        return "last layer fitted"
    criterion = f"best {recipe.metric}" if recipe.checkpoint == "best" else "last"
    return f"{criterion}, epoch {info.chosen_epoch}"


def leaderboard(run_rows: Sequence[LeaderboardRow]) -> list[LeaderboardRow]:
    """Return `run_rows` among the published results that make headlines, by falling accuracy."""
    published_rows = [_row_from_published(row) for row in published_results() if row.headline]
    return sorted([*run_rows, *published_rows], key=lambda row: -row.accuracy)


def _row_from_published(row: PublishedResult) -> LeaderboardRow:
    sd = row.accuracy_sd
    return LeaderboardRow(
        method=row.method,
        input=row.input,
        accuracy=row.accuracy,
        split=f"{row.split} test",
        source=row.source,
        low=None if sd is None else row.accuracy - sd,
        high=None if sd is None else row.accuracy + sd,
        interval="" if sd is None else "1 sd",
        auc=row.auc,
        macro_f1=row.macro_f1,
        url=row.url,
        note=row.note,
    )
