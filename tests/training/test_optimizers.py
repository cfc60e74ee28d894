"""Optimizers: Muon's orthogonalized steps, and the parameter groups of all."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Literal

import pytest
import torch
from torch import nn

from nephros.errors import InvalidArgument
from nephros.models import build_network
from nephros.models.classifier import InputSpec, to_channels_last
from nephros.recipe import ModelConfig, OptimizerConfig, Recipe
from nephros.training.checkpoint import check_optimizer_state
from nephros.training.muon import Muon, orthogonalize, orthogonalize_together
from nephros.training.optimizers import build_optimizer, load_optimizer_state


def network() -> nn.Sequential:
    torch.manual_seed(0)
    parts = [nn.Conv2d(1, 16, 3), nn.Conv2d(16, 24, 3, bias=False), nn.BatchNorm2d(24), nn.Flatten()]
    return nn.Sequential(*parts, nn.Linear(24 * 16, 4))


def step(net: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    nn.functional.cross_entropy(net(images), torch.arange(8) % 4).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@pytest.mark.parametrize("shape", [(24, 144), (144, 24), (32, 32)])
def test_orthogonalize_makes_all_singular_values_similar(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    lengths = torch.linalg.svdvals(orthogonalize(matrix))
    assert 0.6 < lengths.min() < lengths.max() < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    exact = u @ v
    cosine = (orthogonalize(matrix) * exact).sum() / (orthogonalize(matrix).norm() * exact.norm())
    assert cosine > 0.97


def test_matrices_of_several_shapes_are_orthogonalized_together_as_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 72), (16, 128), (128, 32), (8, 40), (32, 200), (32, 32), (8, 72)]
    matrices = [torch.randn(shape, generator=generator) * 10.0**i for i, shape in enumerate(shapes)]
    for matrix, together in zip(matrices, orthogonalize_together(matrices), strict=True):
        torch.testing.assert_close(together, orthogonalize(matrix), rtol=1e-4, atol=1e-5)


def test_steps_in_few_kernels_are_those_of_one_parameter_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = InputSpec(1, 28, 28, 4)
    images = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    weights = []
    for is_bound, reads_device in ((False, False), (True, False), (True, True)):
        monkeypatch.setattr("nephros.training.muon.is_launch_bound", lambda _, answer=is_bound: answer)
        torch.manual_seed(0)
        net = to_channels_last(build_network(ModelConfig(network="equivariant", base_channels=16), spec).double())
        optimizer = Muon(net, lr=0.0625, weight_decay=5e-4)
        for _ in range(4):
            optimizer.zero_grad()
            if reads_device:
                optimizer.set_device_lr(0.0625, torch.device("cpu"))
            nn.functional.cross_entropy(net(images.double()), torch.arange(8) % 4).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        state = {
            f"{i} {key}": value for i, kept in optimizer.state_dict()["state"].items() for key, value in kept.items()
        }
        weights.append({**net.state_dict(), **state})
    one_by_one, *others = weights
    assert len(optimizer.param_groups) == 3
    for together in others:
        for name, expected in one_by_one.items():
            torch.testing.assert_close(together[name], expected, rtol=1e-6, atol=1e-9)


def test_a_muon_step_has_a_share_of_the_filters_norm_and_keeps_it() -> None:
    net = network()
    filters = net.get_parameter("1.weight")
    before = filters.detach().clone()
    step(net, Muon(net, lr=0.05))
    after = filters.detach()
    torch.testing.assert_close(after.norm(), before.norm())
    assert 0.045 < float((after - before).norm() / before.norm()) < 0.055


def test_other_parameters_are_updated_by_sgd() -> None:
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


def test_step_takes_gradients_and_loss_from_a_closure() -> None:
    plain, wrapped = network(), network()
    step(plain, Muon(plain, lr=0.05))
    optimizer = Muon(wrapped, lr=0.05)

    def closure() -> float:
        optimizer.zero_grad()
        images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        loss = nn.functional.cross_entropy(wrapped(images), torch.arange(8) % 4)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    assert optimizer.step(closure) == pytest.approx(1.4, abs=0.7)
    for bare, inner in zip(plain.parameters(), wrapped.parameters(), strict=True):
        torch.testing.assert_close(bare, inner, rtol=0, atol=0)


def test_a_schedule_scales_both_learning_rates() -> None:
    net = network()
    muon = Muon(net, lr=0.05, aux_lr=0.2)
    before = [p.detach().clone() for p in net.parameters()]
    for group in muon.param_groups:
        group["lr"] = 0.0
    step(net, muon)
    for old, new in zip(before, net.parameters(), strict=True):
        torch.testing.assert_close(old, new.detach())


def test_the_recipe_s_fields_reach_the_parameter_groups() -> None:
    optimizer = build_optimizer(
        OptimizerConfig(name="muon", lr=0.04, aux_lr=0.3, momentum=0.8, weight_decay=1e-3), network()
    )
    assert isinstance(optimizer, Muon)
    muon, matrices, vectors = optimizer.param_groups
    assert (muon["lr"], muon["momentum"], muon["weight_decay"]) == (0.04, 0.8, 0.0)
    assert matrices["lr_scale"] == pytest.approx(7.5)
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (1e-3, 0.0)


def test_aux_lr_must_be_positive() -> None:
    with pytest.raises(InvalidArgument) as exc_info:
        Recipe(optimizer=OptimizerConfig(name="muon", aux_lr=0))
    assert (exc_info.value.parameter, exc_info.value.value) == ("optimizer.aux_lr", 0)


def test_weight_decay_can_spare_biases_and_norms() -> None:
    network = build_network(ModelConfig(network="compact", base_channels=8), InputSpec(1, 28, 28, 4))
    groups = build_optimizer(OptimizerConfig(weight_decay=0.1, decay_norm_and_bias=False), network).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert all(p.ndim == 1 for p in groups[1]["params"])
    count = sum(len(group["params"]) for group in groups)
    assert count == len(list(network.parameters()))
    assert len(build_optimizer(OptimizerConfig(weight_decay=0.1), network).param_groups) == 1


@pytest.mark.slow
def test_muon_does_not_wait_for_the_import_of_torchs_compiler() -> None:
    program = """
import sys, torch, nephros
from nephros.recipe import OptimizerConfig
from nephros.training.optimizers import build_optimizer
from nephros.training.trainer import Trainer
network = torch.nn.Linear(2, 2)
optimizer = build_optimizer(OptimizerConfig(name="muon"), network)
network(torch.ones(1, 2)).sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False"]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("fused", [None, True])
def test_a_state_from_another_device_is_continued_in_the_form_of_this_one(
    name: Literal["sgd", "adam", "adamw"], fused: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On GPUs torch's optimizers update all weights at once, on CPUs one after another; both have the same state."""
    config = OptimizerConfig(name=name, lr=0.01, momentum=0.9)

    def build(is_on_gpu: bool) -> tuple[nn.Sequential, torch.optim.Optimizer]:
        monkeypatch.setattr("nephros.training.optimizers.is_launch_bound", lambda _: is_on_gpu)
        net = network()
        return net, build_optimizer(config, net)

    net, optimizer = build(fused is None)
    step(net, optimizer)
    other_net, other = build(fused is not None)
    other_net.load_state_dict(net.state_dict())
    state = copy.deepcopy(optimizer.state_dict())
    assert state["param_groups"][0]["fused"] != other.param_groups[0]["fused"]
    check_optimizer_state(state, other, has_stepped=True)
    load_optimizer_state(other, state)
    assert other.param_groups[0]["fused"] == fused
    for each, its_net in ((optimizer, net), (other, other_net)):
        step(its_net, each)
    for parameter, expected in zip(other_net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-6)
