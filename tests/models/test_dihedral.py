"""D4-equivariant layers and networks: equivariance is exact, for every layer and image size."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from nephros.distributed import SINGLE_PROCESS
from nephros.models import build_network
from nephros.models.classifier import InputSpec
from nephros.models.dihedral import (
    _CAYLEY_TABLE,
    D4BatchNorm,
    D4Conv,
    GlobalOrientationPool,
    OrientationPool,
    d4_inverse,
    d4_transform,
    fold_batch_norm,
    mean_over_orientations,
)
from nephros.models.filter_expansion import N_ORIENTATIONS, take_taps
from nephros.models.sync_batchnorm import convert_sync_batchnorm
from nephros.recipe import ModelConfig

ELEMENTS = range(N_ORIENTATIONS)


def _images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _transformed_maps(g: int, maps: Tensor) -> Tensor:
    """Return the (n, fields * 8, h, w) maps of an input transformed by g: transformed, with the channels of fields permuted."""
    n, channels, height, width = maps.shape
    fields = maps.view(n, channels // N_ORIENTATIONS, N_ORIENTATIONS, height, width)
    order = [_CAYLEY_TABLE[d4_inverse(g)][h] for h in ELEMENTS]
    return d4_transform(g, fields[:, :, order]).reshape(n, channels, height, width)


def test_the_eight_transforms_form_a_group() -> None:
    x = _images(1, 5, 5)
    views = [d4_transform(g, x) for g in ELEMENTS]
    assert len({tuple(view.flatten().tolist()) for view in views}) == 8
    for a in ELEMENTS:
        torch.testing.assert_close(d4_transform(d4_inverse(a), views[a]), x, rtol=0, atol=0)
        for b in ELEMENTS:
            assert torch.equal(d4_transform(a, views[b]), views[_CAYLEY_TABLE[a][b]])


@pytest.mark.parametrize(
    ("side", "kernel", "stride"), [(7, 3, 1), (8, 3, 1), (8, 4, 2), (28, 6, 2), (7, 3, 2), (7, 1, 1)]
)
def test_maps_transform_with_the_image(side: int, kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    lift, later = D4Conv(2, 3, 3, lifting=True).double(), D4Conv(3, 2, kernel, stride).double()
    x = _images(2, 2, side, side)
    maps, deep = lift(x), later(lift(x))
    for g in ELEMENTS:
        torch.testing.assert_close(lift(d4_transform(g, x)), _transformed_maps(g, maps), rtol=0, atol=1e-12)
        torch.testing.assert_close(later(lift(d4_transform(g, x))), _transformed_maps(g, deep), rtol=0, atol=1e-12)


def test_d4_conv_is_the_ordinary_convolution_with_its_filters() -> None:
    torch.manual_seed(0)
    layer = D4Conv(2, 3, 3)
    assert layer.weight.shape == (3, 16, 3, 3)
    assert layer.filters().shape == (24, 16, 3, 3)
    x = torch.randn(2, 16, 7, 7)
    torch.testing.assert_close(layer(x), nn.functional.conv2d(x, layer.filters(), padding=1))


@pytest.mark.parametrize("side", [28, 30, 32, 64, 44])
def test_the_network_predicts_the_same_for_all_orientations(side: int) -> None:
    torch.manual_seed(0)
    network = build_network(
        ModelConfig(network="equivariant", base_channels=16, depth=1), InputSpec(1, side, side, 5)
    ).double()
    with torch.no_grad():
        network.train()(_images(8, 1, side, side) + 1)  # changes the running statistics
        network.eval()
        x = _images(3, 1, side, side, seed=1)
        logits = network(x)
        assert logits.std(0).min() > 1e-6
        for g in ELEMENTS:
            torch.testing.assert_close(network(d4_transform(g, x)), logits, rtol=0, atol=1e-12)


def test_d4_batch_norm_is_batch_norm_with_a_scale_per_field() -> None:
    ours, plain = D4BatchNorm(3).double(), nn.BatchNorm2d(24).double()
    with torch.no_grad():
        for p, q in ((ours.weight, plain.weight), (ours.bias, plain.bias)):
            p.copy_(torch.tensor([0.5, 1.0, 2.0]))
            q.copy_(p.repeat_interleave(8))
    x = _images(4, 24, 5, 5) * 3 + 1
    torch.testing.assert_close(ours(x), plain(x))
    torch.testing.assert_close(ours.running_mean, plain.running_mean)
    torch.testing.assert_close(ours.running_var, plain.running_var)
    mean = mean_over_orientations(plain.running_mean.view(1, -1)).repeat_interleave(8)  # type: ignore[union-attr]
    plain.running_mean.copy_(mean)  # type: ignore[union-attr]
    var = mean_over_orientations(plain.running_var.view(1, -1)).repeat_interleave(8)  # type: ignore[union-attr]
    plain.running_var.copy_(var)  # type: ignore[union-attr]
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x))


def test_sync_batch_norm_keeps_d4_batch_norm_unchanged() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(D4Conv(1, 2, 3, lifting=True), D4BatchNorm(2), nn.ReLU()).double()
    shared = copy.deepcopy(network)
    convert_sync_batchnorm(shared, SINGLE_PROCESS)
    x = _images(4, 1, 6, 6)
    for _ in range(2):
        for net in (network, shared):
            net.zero_grad()
            net(x).square().sum().backward()
    torch.testing.assert_close(shared(x), network(x))
    for ours, theirs in zip(shared.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(shared.state_dict(), network.state_dict())
    torch.testing.assert_close(shared.eval()(x), network.eval()(x))


def test_folding_keeps_the_predictions_and_stores_each_filter_once() -> None:
    torch.manual_seed(0)
    network = build_network(
        ModelConfig(network="equivariant", base_channels=16, depth=1), InputSpec(1, 28, 28, 5)
    ).double()
    with torch.no_grad():
        network.train()(_images(16, 1, 28, 28))
        folded = fold_batch_norm(copy.deepcopy(network.eval()))
        assert not [layer for layer in folded.modules() if isinstance(layer, D4Conv | D4BatchNorm)]
        assert sum(p.numel() for p in folded.parameters()) < sum(p.numel() for p in network.parameters())
        x = _images(4, 1, 28, 28, seed=1)
        torch.testing.assert_close(folded(x), network(x), rtol=0, atol=1e-12)


def test_pooling_orientations_then_positions_is_global_pooling() -> None:
    maps = _images(3, 16, 4, 4)
    torch.testing.assert_close(OrientationPool()(maps).mean((2, 3)), GlobalOrientationPool()(maps))


@pytest.mark.parametrize("lifting", [True, False])
def test_taps_on_gpus_are_taken_as_by_an_index(lifting: bool) -> None:
    conv = D4Conv(3, 2, 6 if lifting else 3, lifting=lifting)
    flat = conv.weight.detach().double().reshape(2, 3, -1).requires_grad_()
    expected, taps = flat[:, :, conv.index], take_taps(flat, conv.index)
    assert torch.equal(taps, expected)
    gradient = torch.randn_like(expected)
    (by_index,) = torch.autograd.grad(expected, flat, gradient)
    (by_taps,) = torch.autograd.grad(taps, flat, gradient)
    torch.testing.assert_close(by_taps, by_index)
