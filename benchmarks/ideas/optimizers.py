"""Optimizers that were tried, each as a patch of a trainer before it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from benchmarks.ideas.losses import Patch
from nephros.training.trainer import Trainer


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


def with_lion(weight_decay: float) -> Patch:
    """Replace the optimizer by Lion."""

    def patch(trainer: Trainer) -> None:
        trainer.step.optimizer = Lion(trainer.model.parameters(), trainer.recipe.optimizer.lr, weight_decay)

    return patch


def fast_norm_biases(factor: float) -> Patch:
    """Give the biases of normalization layers `factor` times the learning rate (cifar10-airbench)."""

    def patch(trainer: Trainer) -> None:
        norm_biases = {m.bias for m in trainer.model.modules() if isinstance(m, nn.BatchNorm2d)}
        settings = trainer.recipe.optimizer
        groups = []
        for weights in trainer.model.parameters():
            decay = settings.weight_decay if weights.ndim > 1 else 0.0
            groups.append(
                {"params": [weights], "weight_decay": decay, "lr_scale": factor if weights in norm_biases else 1.0}
            )
        trainer.step.optimizer = ScaledSGD(
            groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov
        )

    return patch


class ScaledSGD(torch.optim.SGD):
    """SGD with a factor of the learning rate per parameter group."""

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take a step."""
        for group in self.param_groups:
            group["lr"] *= group["lr_scale"]
        super().step(closure)
