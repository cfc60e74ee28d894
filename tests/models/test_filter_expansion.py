"""One gather expands stored filters, with the same bits in values and gradients as indexing and copying."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from nephros.models.dihedral import D4Conv
from nephros.models.filter_expansion import channels_last_filters, expand_filters

SHAPES = [(1, 4, 3, True), (3, 4, 3, True), (1, 4, 5, True), (1, 1, 3, False), (2, 3, 2, False), (4, 2, 3, False)]
SHAPES += [(8, 8, 3, False), (3, 5, 1, False), (2, 1, 5, False)]


def by_indexing(layer: D4Conv) -> Tensor:
    return expand_filters(layer.weight, layer.filter_shape, layer.index).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_layout_and_gradients_are_those_of_indexing(
    shape: tuple[int, int, int, bool], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    in_fields, out_fields, kernel, lifting = shape
    layer = D4Conv(in_fields, out_fields, kernel, lifting=lifting).to(dtype)
    expected, actual = by_indexing(layer), channels_last_filters(layer.weight, layer.filter_shape, layer.index)
    assert torch.equal(actual, expected)
    assert actual.stride() == expected.stride()
    gradient = torch.randn_like(expected)
    gradient[gradient.abs() < 0.3] = -0.0
    for layout in (torch.channels_last, torch.contiguous_format):
        gradients = [
            torch.autograd.grad(filters, layer.weight, gradient.contiguous(memory_format=layout), retain_graph=True)[0]
            for filters in (actual, expected)
        ]
        assert torch.equal(*(g.view(torch.int32 if dtype == torch.float32 else torch.int64) for g in gradients))


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_on_gpus_are_those_of_indexing(
    shape: tuple[int, int, int, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nephros.models.filter_expansion.is_launch_bound", lambda _: True)
    in_fields, out_fields, kernel, lifting = shape
    layer = D4Conv(in_fields, out_fields, kernel, lifting=lifting).double()
    expected, actual = by_indexing(layer), channels_last_filters(layer.weight, layer.filter_shape, layer.index)
    gradient = torch.randn_like(expected)
    actual_gradient, expected_gradient = (
        torch.autograd.grad(filters, layer.weight, gradient)[0] for filters in (actual, expected)
    )
    torch.testing.assert_close(actual_gradient, expected_gradient)


@pytest.mark.parametrize("autocast", [False, True])
def test_training_takes_the_same_steps_to_the_bit(autocast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(layers: nn.Sequential) -> list[Tensor]:
        torch.manual_seed(1)
        optimizer = torch.optim.SGD(layers.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = layers(torch.randn(8, 1, 9, 9)).float().square().mean()
            loss.backward()
            optimizer.step()
        return [p.detach().clone() for p in layers.parameters()]

    torch.manual_seed(0)
    layers = nn.Sequential(D4Conv(1, 4, 3, lifting=True), nn.ReLU(), D4Conv(4, 4, 3), nn.ReLU(), D4Conv(4, 2, 3))
    gathered = trained(copy.deepcopy(layers))
    monkeypatch.setattr(D4Conv, "forward", lambda layer, x: nn.functional.conv2d(x, by_indexing(layer), padding=1))
    for actual, expected in zip(gathered, trained(layers), strict=True):
        assert torch.equal(actual, expected)


def test_filters_without_gradients_are_expanded_by_indexing() -> None:
    """Export and evaluation see plain operators only."""
    layer = D4Conv(2, 2, 3)
    x = torch.randn(1, 16, 5, 5)
    with torch.no_grad():
        expected = layer(x)
    assert expected.grad_fn is None
    frozen = copy.deepcopy(layer).requires_grad_(False)
    assert torch.equal(frozen(x), expected)
    assert torch.equal(layer(x), expected)
