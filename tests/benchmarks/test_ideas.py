"""Ideas with soft targets from finished runs: the targets they use, and the stages at which they run."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ideas import __main__ as ideas
from benchmarks.ideas import labels
from nephros.data.dataset import Dataset
from nephros.data.load import load_dataset
from nephros.errors import NephrosError
from nephros.models.classifier import Classifier
from nephros.recipe import ModelConfig, Recipe
from nephros.training.distillation import read_soft_targets
from nephros.workflows.train import train

pytestmark = pytest.mark.usefixtures("reports_without_figures")

RECIPE = Recipe(
    name="quick", model=ModelConfig(network="course", base_channels=4, depth=2, hidden=(16,)), epochs=1, batch_size=32
)
STUDENT = dataclasses.replace(RECIPE, distillation_weight=0.9)


def forbid_init_model(seed: int) -> Classifier:
    raise AssertionError(f"a network was initialized, with seed {seed}")


@pytest.mark.slow
def test_a_distilled_idea_has_the_soft_targets_of_a_distilled_run(
    tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "RUNS", tmp_path)
    monkeypatch.setattr(labels, "_TEACHER_CACHE", {})
    teacher = train(RECIPE, tiny_npz, out=tmp_path / "one-0").root
    student = train(STUDENT, tiny_npz, out=tmp_path / "student", teachers=[teacher])
    dataset = load_dataset(tiny_npz)
    targets = labels.distilled_from("one-0")(STUDENT, dataset, forbid_init_model)
    np.testing.assert_array_equal(targets, read_soft_targets(student, len(dataset.train), dataset.n_classes))
    with pytest.raises(NephrosError, match="two-0"):
        labels.distilled_from("two-0")(STUDENT, dataset, forbid_init_model)


def test_a_distilled_idea_is_not_screened(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def load_nothing(*_args: object, **_options: object) -> Dataset:
        raise AssertionError("no data must be loaded")

    monkeypatch.setattr(ideas, "load_dataset", load_nothing)
    monkeypatch.setattr(sys, "argv", ["ideas", "fourth-taught"])
    with pytest.raises(SystemExit):
        ideas.main()
    assert "fourth-taught: distilled from runs on all images" in capsys.readouterr().err
