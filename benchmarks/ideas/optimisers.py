"""Optimisers that were tried."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


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
                momentum = self.state[weights].setdefault("momentum", torch.zeros_like(weights))
                weights.mul_(1 - group["lr"] * group["weight_decay"])
                weights.sub_(group["lr"] * torch.sign(0.9 * momentum + 0.1 * weights.grad))
                momentum.lerp_(weights.grad, 0.01)
