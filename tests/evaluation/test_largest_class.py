"""Whether a run beats the least that there is: always predicting the largest class."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from nephros.errors import IncompleteError
from nephros.evaluation.calibration import UNCALIBRATED, fit_temperature
from nephros.evaluation.largest_class import largest_class, no_better_than_largest_class
from nephros.evaluation.metrics import Metrics, compute_metrics
from nephros.exporters.export import export
from nephros.exporters.loading import load_classifier
from nephros.recipe import ModelConfig, OptimizerConfig, Recipe
from nephros.runs import RunFolder
from nephros.workflows.train import train

pytestmark = pytest.mark.usefixtures("reports_without_figures")
NAMES = ("kind 0", "kind 1", "kind 2", "kind 3")


def _metrics(counts: list[int], n_right: int) -> Metrics:
    """Return the metrics of a model that is right for the first `n_right` images and calls the others kind 3 or kind 0."""
    labels = np.repeat(np.arange(4), counts)
    predicted = np.where(np.arange(len(labels)) < n_right, labels, np.where(labels == 3, 0, 3))
    return compute_metrics(np.eye(4)[predicted], labels, NAMES)


@pytest.mark.parametrize(
    ("counts", "n_right", "is_better"),
    [
        ([25, 25, 25, 25], 28, False),  # .28, interval from .20
        ([25, 25, 25, 25], 60, True),
        ([80, 10, 5, 5], 80, False),  # always kind 0
        ([80, 10, 5, 5], 85, False),  # .85, interval from .77
        ([80, 10, 5, 5], 95, True),
        ([2, 2, 2, 2], 4, False),  # .5 of eight says little
        ([2, 2, 2, 2], 8, True),
        ([0, 10, 10, 10], 10, True),  # the largest class of train is absent here
    ],
)
def test_only_a_whole_interval_above_the_largest_class_is_better(
    counts: list[int], n_right: int, is_better: bool, run_folder: RunFolder
) -> None:
    info = dataclasses.replace(run_folder.info(), class_counts={"train": [50, 10, 10, 10]}, class_names=list(NAMES))
    metrics = _metrics(counts, n_right)
    sentence = no_better_than_largest_class(info, metrics)
    assert (sentence == "") is is_better
    baseline = largest_class(info, metrics)
    assert baseline == type(baseline)("kind 0", counts[0] / sum(counts))
    if not is_better:
        assert all(text in sentence for text in ("kind 0", f"{metrics.accuracy:.1%}", f"{baseline.accuracy:.1%}"))


@pytest.mark.parametrize(("share", "is_better"), [(0.63, True), (0.65, False)])
def test_cross_validation_decides_for_a_fine_tuned_run(share: float, is_better: bool, run_folder: RunFolder) -> None:
    # The interval of another group, which reaches down to .31, doesn't count: 14 of 16 images have one from .640.
    row = {"accuracy_low": 0.31, "accuracy_high": 0.99, "macro_f1": 0.9, "loss": 0.1, "seconds": 1.0, "detail": ""}
    methods = [
        {**row, "method": "head", "accuracy": 0.875},
        {**row, "method": "largest-class", "accuracy": share},
    ]
    record = {"method": "head", "folds": 3, "by_group": True, "methods": methods}
    info = dataclasses.replace(
        run_folder.info(),
        class_counts={"train": [5, 4, 4, 3]},
        class_names=list(NAMES),
        finetuning=record,  # type: ignore[arg-type]
    )
    two_images = dataclasses.replace(_metrics([1, 1, 0, 0], 2), split="val")
    sentence = no_better_than_largest_class(info, two_images)
    assert (sentence == "") is is_better
    if not is_better:
        assert all(
            text in sentence
            for text in ("Not clearly", "87.5%", "64.0% to 96.5%", "in cross-validation", "kind 0 65.0%")
        )
    on_test = dataclasses.replace(_metrics([1, 1, 0, 0], 0), split="test")
    assert "on test" in no_better_than_largest_class(info, on_test)


@pytest.fixture
def failed_run(cells_npz: Path, tmp_path: Path) -> RunFolder:
    """A run whose learning rate is so low that it learned nothing."""
    recipe = Recipe(
        name="nothing",
        model=ModelConfig(network="compact", base_channels=4),
        optimizer=OptimizerConfig(lr=1e-9),
        epochs=1,
        batch_size=64,
    )
    return train(recipe, cells_npz, out=tmp_path / "run")


def test_a_run_that_learned_nothing_says_so_everywhere(
    failed_run: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sentence = no_better_than_largest_class(failed_run.info(), Metrics.from_run(failed_run, "val"))
    assert sentence
    report = failed_run.file("report.html").read_text()
    header = report[: report.index("<nav")]
    assert sentence in header.replace("&#39;", "'")
    assert f"<br>n{sentence[1:].partition(':')[0]}" in header
    out = tmp_path / "model.safetensors"
    with pytest.raises(IncompleteError, match="`force`"):
        export(failed_run.root, "safetensors", out=out)
    assert not list(tmp_path.glob("model*"))
    export(failed_run.root, "safetensors", out=out, force=True)
    card = json.loads(out.with_suffix(".card.json").read_text())
    assert card["limitations"][0] == sentence
    assert card["limitations"][0] in out.with_suffix(".card.md").read_text()
    assert load_classifier(out).card["limitations"] == card["limitations"]


def test_a_run_that_learned_says_nothing(run_folder: RunFolder, exported_model: Path) -> None:
    assert "etter than always" not in run_folder.file("report.html").read_text().split("<nav")[0]
    limitations = load_classifier(exported_model).card["limitations"]
    assert not any("largest class" in line or "uncalibrated" in line for line in limitations)


def test_a_temperature_at_the_bound_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    labels = np.arange(20) % 4
    always_right = np.full((20, 4), 0.1) + 0.6 * np.eye(4)[labels]
    assert fit_temperature(always_right, labels) == UNCALIBRATED
    assert "not kept" in caplog.text
