"""Statistics of batch normalization measured on given images."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nephros.models import build_network
from nephros.models.classifier import Classifier, InputSpec
from nephros.models.norm_statistics import batch_norms, estimate_batch_norm, recenter_batch_norm
from nephros.recipe import ModelConfig

SPEC = InputSpec(1, 28, 28, 3)


def _trained(network: str) -> Classifier:
    """Return a classifier whose statistics, scales and shifts are unlike the initial ones, as after training."""
    torch.manual_seed(0)
    model = Classifier(build_network(ModelConfig(network=network, base_channels=8), SPEC), [0.2], [0.3])
    for norm in batch_norms(model):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    return model.eval()


def _batches(n: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (16, 1, 28, 28), dtype=torch.uint8, generator=generator) for _ in range(n)]


@pytest.mark.parametrize("network", ["equivariant", "compact", "poster"])
def test_recentering_changes_statistics_but_not_the_function(network: str) -> None:
    model, batches = _trained(network), _batches()
    before = copy.deepcopy(model)
    with torch.no_grad():
        expected = model(batches[0])
        recenter_batch_norm(model, batches)
        torch.testing.assert_close(model(batches[0]), expected, rtol=1e-3, atol=1e-4)
        all_images = torch.cat(batches)
        model.train()
        torch.testing.assert_close(model(all_images), before(all_images), rtol=0.05, atol=0.05)
    changed = [
        not torch.allclose(new.running_mean, old.running_mean)  # type: ignore[arg-type]
        for new, old in zip(batch_norms(model), batch_norms(before), strict=True)
    ]
    assert all(changed)


def test_estimated_statistics_are_those_of_the_batches() -> None:
    norm = nn.BatchNorm2d(2)
    model = nn.Sequential(norm, nn.Dropout(0.5)).train()
    batches = [torch.randn(8, 2, 4, 4) * scale + scale for scale in (1.0, 3.0)]
    estimate_batch_norm(model, batches)
    expected_mean = torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0)
    expected_var = torch.stack([b.transpose(0, 1).flatten(1).var(1) for b in batches]).mean(0)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, expected_mean)
    torch.testing.assert_close(norm.running_var, expected_var)
    assert norm.momentum == 0.1
    assert model.training


def test_statistics_of_frozen_layers_stay() -> None:
    frozen, trained = nn.BatchNorm2d(1).eval(), nn.BatchNorm2d(1)
    estimate_batch_norm(nn.Sequential(frozen, trained), [torch.randn(4, 1, 3, 3) + 5])
    assert frozen.running_mean is not None
    assert frozen.running_mean.item() == 0
    assert trained.running_mean is not None
    assert trained.running_mean.item() > 3
