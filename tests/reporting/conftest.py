"""Run folders with all files of `nephros.train`, from random probabilities, in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nephros.data.dataset import Dataset
from nephros.data.provenance import Provenance
from nephros.data.split import Split
from nephros.evaluation.metrics import compute_metrics
from nephros.evaluation.scoring import Evaluation
from nephros.files import write_text
from nephros.recipe import AugmentConfig, ModelConfig, Recipe, to_yaml
from nephros.reporting.plots import classification
from nephros.reporting.run import run_figures
from nephros.runs import RunFolder, RunInfo
from nephros.training.history import EpochMetrics, history_to_csv

MakeRun = Callable[..., tuple[RunFolder, Dataset]]


def random_evaluation(
    labels: NDArray[np.int64], class_names: tuple[str, ...], seed: int = 0, separation: float = 1.6
) -> Evaluation:
    """Return the Evaluation of a classifier better than chance; with `separation` above 50 it is always right."""
    scores = np.random.default_rng(seed).normal(size=(len(labels), len(class_names)))
    scores[np.arange(len(labels)), labels] += separation
    probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return Evaluation(compute_metrics(probabilities, labels, class_names), probabilities, labels)


def history_of(n: int) -> list[EpochMetrics]:
    """Return the history of n epochs."""
    return [
        EpochMetrics(e, 0.1, 2 / e, 0.3 + 0.05 * e, 1.8 / e, 0.35 + 0.04 * e, 0.3, 0.8, 1.5, 900.0)
        for e in range(1, n + 1)
    ]


@pytest.fixture
def evaluation() -> Callable[..., Evaluation]:
    """Make an Evaluation on so many classes; class `missing` has no cells."""

    def make(classes: int, missing: int | None = None, n: int = 400, separation: float = 1.6) -> Evaluation:
        labels = np.random.default_rng(1).integers(0, classes, n)
        if missing is not None:
            labels[labels == missing] = (missing + 1) % classes
        return random_evaluation(labels, tuple(f"kind {c}" for c in range(classes)), separation=separation)

    return make


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures blank, which would take a minute: for tests of the text around them."""

    def blank(figure: Figure, png_file: Path, alt: str) -> Markup:
        return Markup(f'<svg role="img" aria-label="{escape(alt)}"></svg>')

    monkeypatch.setattr("nephros.reporting.run.run_figures.save_figure", blank)
    for module in (run_figures, classification):
        for name in [name for name in vars(module) if name.startswith("plot_")]:
            monkeypatch.setattr(module, name, lambda *_args: Figure())


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Make a run folder and the Dataset that it was trained on."""

    def make(
        class_names: tuple[str, ...] = ("Podocytes", "Leukocytes", "Thick Ascending Limb"),
        *,
        split: Any = "own",
        key: str | None = None,
        scored: tuple[str, ...] = ("train", "val", "test"),
        channels: int = 1,
        missing: int | None = None,
        separation: float = 1.6,
        history: int = 3,
        status: str = "complete",
        root: str = "run",
        **changes: Any,
    ) -> tuple[RunFolder, Dataset]:
        provenance = Provenance(
            "TissueMNIST" if key == "tissuemnist" else "Example cells", split, "/data/x.npz", "ab" * 32, key
        )
        dataset = _dataset(class_names, channels, missing, provenance)
        folder = RunFolder.create(tmp_path / root, split == "synthetic")
        recipe = Recipe(name="little", epochs=5, model=ModelConfig(dropout=0.5), augment=AugmentConfig(shift=2))
        write_text(folder.file("recipe.yaml"), to_yaml(recipe))
        folder.write_info(replace(_info(dataset, recipe, status), **changes))
        if history:
            write_text(folder.file("history.csv"), history_to_csv(history_of(history)))
        for name in scored:
            evaluation = random_evaluation(dataset.split(name).labels, class_names, separation=separation)
            metrics = replace(evaluation.metrics, split=name, provenance=provenance.to_dict())
            predictions = None if name == "train" else folder.file(name, "predictions.npz")
            Evaluation(metrics, evaluation.probabilities, evaluation.labels).save(
                folder.file(name, "metrics.json"), predictions
            )
        if "test" in scored:
            entry = '{"time": "2026-01-01T00:00:00+00:00", "commit": null, "data": "x"}\n'
            write_text(folder.file("test", "reads.jsonl"), entry)
        return folder, dataset

    return make


def _dataset(names: tuple[str, ...], channels: int, missing: int | None, provenance: Provenance) -> Dataset:
    rng = np.random.default_rng(2)

    def part(n: int) -> Split:
        labels = np.arange(n) % len(names)
        if missing is not None:
            labels = np.where(labels == missing, (missing + 1) % len(names), labels)
        shape = (n, 28, 28) if channels == 1 else (n, 28, 28, channels)
        return Split(rng.integers(0, 90, shape).astype(np.uint8), labels)

    return Dataset(part(300), part(120), part(180), names, provenance)


def _info(dataset: Dataset, recipe: Recipe, status: str) -> RunInfo:
    complete = status == "complete"
    return RunInfo(
        recipe=recipe.name,
        recipe_hash=recipe.hash,
        seed=0,
        command="nephros train little --data x.npz",
        device="CPU, 2 threads",
        threads=2,
        data=dataset.provenance.to_dict(),
        data_request={"source": "", "size": None, "subset": None, "seed": 0},
        class_names=list(dataset.class_names),
        input_spec={"channels": dataset.channels, "height": 28, "width": 28, "n_classes": dataset.n_classes},
        class_counts={name: part.class_counts(dataset.n_classes).tolist() for name, part in dataset.splits()},
        normalization={"mean": [0.5], "std": [0.5]},
        parameters=123456,
        multiply_adds=7890123,
        test=True,
        created="2026-01-01T00:00:00+00:00",
        versions={"nephros": "0.1.0", "python": "3.11"},
        commit=None,
        status=status,
        chosen_epoch=3 if complete else None,
        training_minutes=1.25 if complete else None,
    )
