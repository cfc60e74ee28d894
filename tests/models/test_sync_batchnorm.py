"""Batch normalization over ranks, with a single rank; tests/training/test_distributed.py covers several."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from nephros.distributed import SINGLE_PROCESS
from nephros.models.sync_batchnorm import CPUSyncBatchNorm, convert_sync_batchnorm


def _step(network: nn.Module, x: Tensor, upstream: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y: Tensor = network(x)
    network.zero_grad()
    y.backward(upstream)  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for p in network.parameters() if p.grad is not None)]


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 5, 4)])
def test_with_one_rank_it_matches_torch(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randn(shape, dtype=torch.float64, generator=generator) * 3 + 2 for _ in range(4)]
    layer: nn.BatchNorm1d | nn.BatchNorm2d = nn.BatchNorm1d(3) if len(shape) == 2 else nn.BatchNorm2d(3)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    network = nn.Sequential(nn.Sequential(layer)).double()
    ours = copy.deepcopy(network)
    convert_sync_batchnorm(ours, SINGLE_PROCESS)
    assert isinstance(ours[0][0], CPUSyncBatchNorm)  # type: ignore[index]
    assert list(ours.state_dict()) == list(network.state_dict())
    for x, upstream in (draw[:2], draw[2:]):
        for a, b in zip(_step(ours, x, upstream), _step(network, x, upstream), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=1e-14)
    ours.load_state_dict(network.state_dict())
    assert torch.equal(ours.eval()(draw[0]), network.eval()(draw[0]))


def test_the_variance_of_a_channel_far_from_zero_is_accurate() -> None:
    x = torch.randn(64, 2, 4, 4, generator=torch.Generator().manual_seed(0)) + 3000
    shared = CPUSyncBatchNorm(nn.BatchNorm2d(2), SINGLE_PROCESS)
    exact = nn.BatchNorm2d(2).double()
    torch.testing.assert_close(shared(x).double(), exact(x.double()), rtol=0, atol=2e-3)
    torch.testing.assert_close(shared.running_var.double(), exact.running_var, rtol=1e-5, atol=0)  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_dtype(dtype: torch.dtype) -> None:
    x = torch.randn(8, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    shared, plain = CPUSyncBatchNorm(nn.BatchNorm2d(2), SINGLE_PROCESS), nn.BatchNorm2d(2)
    y = shared(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), plain(x), rtol=0.02, atol=0.02)
