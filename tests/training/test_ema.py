"""Exponential moving average of weights."""

from __future__ import annotations

import pytest
import torch

from nephros.training.ema import WeightEMA


def test_the_average_is_exponential_with_a_smaller_decay_at_first() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    average = WeightEMA(layer, 0.15)
    expected = 0.0
    for value, decay in ((1.0, 0.15), (3.0, 0.15)):
        torch.nn.init.constant_(layer.weight, value)
        average.update(layer)
        expected = decay * expected + (1 - decay) * value
    assert average.weights["weight"].item() == pytest.approx(expected)
    early = WeightEMA(layer, 0.999)
    torch.nn.init.constant_(layer.weight, 0.0)
    early.update(layer)
    assert early.weights["weight"].item() == pytest.approx(3.0 * 2 / 11)


def test_the_network_holds_the_average_within_the_block_only() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 1.0)
    average = WeightEMA(layer, 0.5)
    torch.nn.init.constant_(layer.weight, 3.0)
    with average.applied_to(layer):
        assert layer.weight.item() == 1.0
    assert layer.weight.item() == 3.0


def test_the_average_is_restored_from_its_state() -> None:
    layer = torch.nn.Linear(2, 1)
    average, restored = WeightEMA(layer, 0.9), WeightEMA(layer, 0.9)
    for _ in range(3):
        torch.nn.init.normal_(layer.weight)
        average.update(layer)
    restored.load_state_dict(average.state_dict())
    torch.nn.init.normal_(layer.weight)
    for ema in (average, restored):
        ema.update(layer)
    assert all(torch.equal(average.weights[name], restored.weights[name]) for name in average.weights)
