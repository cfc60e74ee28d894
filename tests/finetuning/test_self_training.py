"""The second round of fine-tuning: what the network learns from its own predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nephros.data.split import Split
from nephros.finetuning import self_training
from nephros.finetuning.network import make_recipe
from nephros.models.classifier import Classifier
from nephros.recipe import ModelConfig
from tests.conftest import square_images


@pytest.mark.parametrize(("n_unlabeled", "n_used"), [(40, 40), (500, 90)])
def test_labels_stay_certain_and_make_up_a_quarter_of_what_is_learned(
    n_unlabeled: int, n_used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []

    def train_method(_method: str, *args: Any) -> tuple[Any, list[Any]]:
        calls.append(args)
        return args[1], []

    monkeypatch.setattr(self_training, "train_method", train_method)
    monkeypatch.setattr(self_training, "predict_images", lambda *args: np.tile([[0.2, 0.8]], (len(args[1]), 1)))
    monkeypatch.setattr(self_training, "MAX_UNLABELED", 90)
    images, labels = square_images(10, 2, seed=0)
    train, unlabeled = Split(images, labels), square_images(n_unlabeled, 2, seed=1)[0]
    recipe = make_recipe("self-training", ModelConfig("compact"), len(train), 3, 1)
    start: Any = Classifier.__new__(Classifier)
    teacher: Any = Classifier.__new__(Classifier)
    drawn = self_training.draw_unlabeled(unlabeled, np.arange(n_unlabeled), recipe.seed)
    self_training.self_train(recipe, start, teacher, train, train, drawn, ("a", "b"), torch.device("cpu"))
    ((student, student_start, split, *_, soft_targets),) = calls
    assert student.distillation_weight == 1.0
    assert student_start is start
    n_labeled = len(split) - n_used
    assert 0.15 < n_labeled / len(split) < 0.35
    np.testing.assert_array_equal(split.labels[:n_labeled], np.tile(labels, n_labeled // len(labels)))
    np.testing.assert_array_equal(soft_targets[:n_labeled].argmax(1), split.labels[:n_labeled])
    assert set(soft_targets[:n_labeled].flatten().tolist()) == {0.0, 1.0}
    np.testing.assert_allclose(soft_targets[n_labeled:], np.tile([[0.2, 0.8]], (n_used, 1)), rtol=1e-6)
    steps = student.epochs * student.passes_per_epoch * len(split) / student.batch_size
    assert self_training.STEPS <= steps < 2 * self_training.STEPS
