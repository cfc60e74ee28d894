"""Losses: class weights, label smoothing and distillation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nephros.recipe import Recipe
from nephros.training.losses import build_loss, distillation_loss

CPU = torch.device("cpu")


def test_class_weights() -> None:
    counts = np.array([60, 30, 10])
    none, ratio, balanced = (
        build_loss(Recipe(class_weights=kind), counts, CPU).weight for kind in ("none", "max-ratio", "balanced")
    )
    assert none is None
    assert ratio is not None
    assert balanced is not None
    assert ratio.tolist() == pytest.approx([1, 2, 6])
    assert balanced.tolist() == pytest.approx([100 / 180, 100 / 90, 100 / 30])


def test_a_class_without_images_has_no_weight() -> None:
    loss = build_loss(Recipe(class_weights="max-ratio", label_smoothing=0.1), np.array([60, 0, 30]), CPU)
    assert loss.weight is not None
    assert loss.weight.tolist() == [1, 0, 2]
    assert loss(torch.zeros(2, 3), torch.tensor([0, 2])).isfinite()


def test_label_smoothing_spreads_a_share_of_each_target() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    smooth = build_loss(Recipe(label_smoothing=0.1), np.ones(3, dtype=np.int64), CPU)(logits, labels)
    log_p = logits.log_softmax(1)
    expected = -(0.9 * log_p[torch.arange(6), labels] + 0.1 * log_p.mean(1)).mean()
    assert smooth.item() == pytest.approx(expected.item(), abs=1e-6)


def test_distillation_loss_mixes_labels_and_soft_targets_by_its_weight() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    cross_entropy = torch.nn.functional.cross_entropy(logits, labels)
    one_hot = torch.nn.functional.one_hot(labels, 4).float()
    torch.testing.assert_close(distillation_loss(cross_entropy, logits, one_hot, 0.6, 6), cross_entropy)
    uniform = torch.full((6, 4), 0.25)
    uniform_loss = -torch.log_softmax(logits, 1).mean()
    torch.testing.assert_close(
        distillation_loss(cross_entropy, logits, uniform, 0.25, 6), 0.75 * cross_entropy + 0.25 * uniform_loss
    )
