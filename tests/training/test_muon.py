"""Muon: what it makes of gradients, and what it leaves to plain steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nephros.errors import NephrosError
from nephros.recipe import Recipe
from nephros.recipe_parts import OptimizerConfig
from nephros.training.muon import Muon, orthogonalize
from nephros.training.parts import build_optimizer


def network() -> nn.Sequential:
    torch.manual_seed(0)
    parts = [nn.Conv2d(1, 16, 3), nn.Conv2d(16, 24, 3, bias=False), nn.BatchNorm2d(24), nn.Flatten()]
    return nn.Sequential(*parts, nn.Linear(24 * 16, 4))


def step(net: nn.Sequential, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    nn.functional.cross_entropy(net(images), torch.arange(8) % 4).backward()  # type: ignore[no-untyped-call]
    optimiser.step()


@pytest.mark.parametrize("shape", [(24, 144), (144, 24), (32, 32)])
def test_all_directions_get_about_the_same_length(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    lengths = torch.linalg.svdvals(orthogonalize(matrix))
    assert 0.6 < lengths.min() < lengths.max() < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    exact = u @ v
    cosine = (orthogonalize(matrix) * exact).sum() / (orthogonalize(matrix).norm() * exact.norm())
    assert cosine > 0.97


def test_a_step_is_so_large_a_share_of_the_filters_norm_which_stays() -> None:
    net = network()
    filters = net.get_parameter("1.weight")
    before = filters.detach().clone()
    step(net, Muon(net, lr=0.05))
    after = filters.detach()
    torch.testing.assert_close(after.norm(), before.norm())
    assert 0.045 < float((after - before).norm() / before.norm()) < 0.055


def test_all_else_is_stepped_by_sgd() -> None:
    ours, plain = network(), network()
    plain.get_parameter("1.weight").requires_grad_(False)
    muon = Muon(ours, lr=0.05, momentum=0.9, aux_lr=0.1)
    sgd = torch.optim.SGD([p for p in plain.parameters() if p.requires_grad], lr=0.1, momentum=0.9, nesterov=True)
    for _ in range(3):
        step(ours, muon)
        step(plain, sgd)
        plain.get_parameter("1.weight").data.copy_(ours.get_parameter("1.weight").data)
    for name in ("0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"):
        torch.testing.assert_close(ours.get_parameter(name), plain.get_parameter(name))


def test_a_closure_gives_the_gradients_as_loops_that_wrap_a_step_expect() -> None:
    plain, wrapped = network(), network()
    step(plain, Muon(plain, lr=0.05))
    optimiser = Muon(wrapped, lr=0.05)

    def closure() -> float:
        optimiser.zero_grad()
        images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        loss = nn.functional.cross_entropy(wrapped(images), torch.arange(8) % 4)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    assert optimiser.step(closure) == pytest.approx(1.4, abs=0.7)
    for one, other in zip(plain.parameters(), wrapped.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_schedule_moves_both_rates() -> None:
    net = network()
    muon = Muon(net, lr=0.05, aux_lr=0.2)
    before = [p.detach().clone() for p in net.parameters()]
    for group in muon.param_groups:
        group["lr"] = 0.0
    step(net, muon)
    for old, new in zip(before, net.parameters(), strict=True):
        torch.testing.assert_close(old, new.detach())


def test_the_recipe_names_it() -> None:
    made = build_optimizer(
        OptimizerConfig(name="muon", lr=0.04, aux_lr=0.3, momentum=0.8, weight_decay=1e-3), network()
    )
    assert isinstance(made, Muon)
    muon, matrices, vectors = made.param_groups
    assert (muon["lr"], muon["momentum"], muon["weight_decay"]) == (0.04, 0.8, 0.0)
    assert matrices["lr_scale"] == pytest.approx(7.5)
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (1e-3, 0.0)


def test_its_second_rate_must_be_a_rate() -> None:
    with pytest.raises(NephrosError, match=r"--optimizer\.aux_lr is 0, but it must be a number above 0"):
        Recipe(optimizer=OptimizerConfig(name="muon", aux_lr=0))
