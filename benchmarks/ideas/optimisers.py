"""Optimisers that were tried."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_FIVE = ((3.4445, -4.7750, 2.0315),) * 5
"""Keller Jordan's quintic, five times: pushes singular values into about .7 to 1.2."""


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return the nearest semi-orthogonal matrix to (rows, columns), roughly, by Newton-Schulz iterations (Jordan 2024)."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x: Tensor = wide / (wide.norm() + 1e-7)
    for a, b, c in _FIVE:
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide is matrix else x.T


class Muon(torch.optim.Optimizer):
    """Muon for filters and matrices, SGD with Nesterov's momentum for all else.

    A group with `muon` steps each filter bank, flattened to (outputs, rest), along the orthogonalised momentum of its
    gradient; the step's Frobenius norm is lr times that of the weights, which are kept at the norm that they began with
    where `fixed_norm` says so, since batch normalisation makes it idle.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "muon": False, "scale": 1.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take a step."""
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    self._one(weights, weights.grad, group)

    def _one(self, weights: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, lr = self.state[weights], group["lr"] * group["scale"]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
            state["norm"] = weights.norm()
        if not group["muon"] and group["weight_decay"]:
            gradient = gradient + group["weight_decay"] * weights
        held = state["momentum"].mul_(group["momentum"]).add_(gradient)
        ahead = gradient + group["momentum"] * held
        if not group["muon"]:
            weights.sub_(lr * ahead)
            return
        step = orthogonalised(ahead.reshape(len(ahead), -1)).reshape(ahead.shape)
        weights.sub_(step * (lr * state["norm"] / (step.norm() + 1e-7)))
        weights.mul_(state["norm"] / weights.norm())


def muon(network: nn.Module, lr: float, momentum: float, rest: float, weight_decay: float = 0.0) -> Muon:
    """Return Muon at `lr` for filters between other filters; the stem, the last layer and all vectors have rate `rest`."""
    filters: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for parameter in network.parameters():
        if parameter.ndim == 4 and parameter[0].numel() >= 64:
            filters.append(parameter)
        else:
            (others if parameter.ndim > 1 else vectors).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": filters, "muon": True},
        {"params": others, "scale": rest / lr, "momentum": 0.9, "weight_decay": weight_decay},
        {"params": vectors, "scale": rest / lr, "momentum": 0.9},
    ]
    return Muon(groups, lr, momentum)


class Lion(torch.optim.Optimizer):
    """Lion (Chen et al. 2023): the sign of a momentum, with decoupled weight decay."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take a step."""
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is None:
                    continue
                held = self.state[weights].setdefault("momentum", torch.zeros_like(weights))
                weights.mul_(1 - group["lr"] * group["weight_decay"])
                weights.sub_(group["lr"] * torch.sign(0.9 * held + 0.1 * weights.grad))
                held.lerp_(weights.grad, 0.01)
