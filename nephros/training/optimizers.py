"""Optimizers: torch's by the recipe's name, Muon, and the exchange of gradients between processes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nephros.distributed import DistributedContext
from nephros.recipe import OptimizerConfig

NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Jordan's quintic: five iterations bring all singular values to about .7 to 1.2."""
NEWTON_SCHULZ_STEPS = 5
MIN_FAN_IN = 64
"""Smallest fan-in (inputs x kernel) of the filters that Muon updates; the stem of grayscale networks is below it, that of color
networks above."""
_EPS = 1e-7
_Item = tuple[Tensor, dict[str, Any]]
"""A parameter and its group."""


def _for_each(function: Callable[[_Item], object], items: Iterable[_Item]) -> None:
    for item in items:
        function(item)


def build_optimizer(config: OptimizerConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over all parameters, in two groups where biases and norms have no weight decay."""
    _spare_compiler_import()
    if config.name == "muon":
        return Muon(network, config.lr, config.momentum, config.aux_lr, config.weight_decay)
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decayed = [p for p in trainable if config.decay_norm_and_bias or p.ndim > 1]
    not_decayed = [p for p in trainable if not (config.decay_norm_and_bias or p.ndim > 1)]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}]
    groups += [{"params": not_decayed, "weight_decay": 0.0}] if not_decayed else []
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
    optimizer_class = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return optimizer_class(groups, lr=config.lr)


def _spare_compiler_import() -> None:
    """Keep torch's optimizers from importing torch's compiler, which takes a second, only to stay out of compiled code.

    They look for a version of each method that the compiler leaves alone, and import it if there is none. Where torch keeps that
    elsewhere, this has no effect; the steps of torch's own optimizers import it all the same.
    """
    if "torch._dynamo" in sys.modules:
        return
    for method in vars(torch.optim.Optimizer).values():
        function = getattr(method, "__wrapped__", None)
        if function is not None and getattr(method, "__globals__", {}).get("__name__") == "torch._compile":
            vars(function).setdefault("__dynamo_disable", function)


def all_reduce_gradients(network: nn.Module, context: DistributedContext, *scalars: Tensor) -> list[Tensor]:
    """Replace every gradient by its sum over all ranks, and return the sums of `scalars`, in one exchange."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    flat = context.all_reduce(
        torch.cat([*(g.flatten() for g in gradients), *(m.to(gradients[0]).view(1) for m in scalars)])
    )
    *reduced_gradients, reduced_scalars = flat.split_with_sizes([*(g.numel() for g in gradients), len(scalars)])
    for gradient, total in zip(gradients, reduced_gradients, strict=True):
        gradient.copy_(total.view_as(gradient))
    return list(reduced_scalars)


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return roughly the nearest semi-orthogonal matrix to a (rows, columns) matrix, by Newton-Schulz iterations."""
    transposed = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if transposed else matrix
    x = x / (x.norm() + _EPS)
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if transposed else x


class Muon(torch.optim.Optimizer):
    """Muon for filters with a fan-in of at least MIN_FAN_IN, SGD with Nesterov momentum for all other parameters.

    Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) steps along orthogonalized momentum: all singular values of a
    step are alike, so that directions with small gradients are learned as fast as those with large ones. On TissueMNIST that
    is worth about two points of accuracy for the same number of steps (docs/results/ideas.md).

    A filter bank (outputs, inputs, k, k) is updated as a matrix (outputs, inputs * k * k). The norm of its step is `lr` times
    the bank's norm, which stays at its initial value: before batch normalization the norm of the weights only scales the
    effective learning rate, which is therefore fixed too. All other parameters have the peak learning rate `aux_lr`
    and, except vectors, `weight_decay`.
    """

    def __init__(
        self, network: nn.Module, lr: float, momentum: float = 0.9, aux_lr: float = 0.1, weight_decay: float = 0.0
    ) -> None:
        trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        muon_params = [p for p in trainable if p.ndim == 4 and p[0].numel() >= MIN_FAN_IN]
        muon_ids = {id(parameter) for parameter in muon_params}
        aux_params = [p for p in trainable if id(p) not in muon_ids]
        groups: list[dict[str, Any]] = [
            {"params": muon_params, "muon": True},
            {"params": [p for p in aux_params if p.ndim > 1], "lr_scale": aux_lr / lr, "weight_decay": weight_decay},
            {"params": [p for p in aux_params if p.ndim == 1], "lr_scale": aux_lr / lr},
        ]
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "muon": False, "lr_scale": 1.0}
        super().__init__([group for group in groups if group["params"]], defaults)
        self.for_each: Callable[[Callable[[_Item], object], Iterable[_Item]], None] = _for_each
        """Updates the parameters; the pool of replicas does so on several cores."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step with the parameters' gradients, which `closure` computes if given; return what it returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        items = [
            (weights, group) for group in self.param_groups for weights in group["params"] if weights.grad is not None
        ]
        for weights, group in items:
            if not self.state[weights]:
                self._init_state(weights, group)
        # The costliest first, so that no core waits long for the last.
        self.for_each(self._update, sorted(items, key=lambda item: -item[0].numel()))
        return loss

    def _init_state(self, weights: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weights]
        assert weights.grad is not None
        state["momentum_buffer"] = torch.zeros_like(weights.grad)
        if group["muon"]:
            state["norm"] = weights.norm()

    @torch.no_grad()
    def _update(self, item: _Item) -> None:
        weights, group = item
        update = self._orthogonalized_update if group["muon"] else self._sgd_update
        update(weights, self._nesterov(weights, group), group)

    def _nesterov(self, weights: Tensor, group: dict[str, Any]) -> Tensor:
        """Add the gradient to the momentum buffer and return Nesterov's direction."""
        gradient = weights.grad
        assert gradient is not None
        if group["weight_decay"]:
            gradient = gradient + group["weight_decay"] * weights
        momentum_buffer = self.state[weights]["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
        return gradient.add(momentum_buffer, alpha=group["momentum"])

    def _sgd_update(self, weights: Tensor, direction: Tensor, group: dict[str, Any]) -> None:
        weights.sub_(direction, alpha=group["lr"] * group["lr_scale"])

    def _orthogonalized_update(self, weights: Tensor, direction: Tensor, group: dict[str, Any]) -> None:
        norm = self.state[weights]["norm"]
        step = orthogonalize(direction.flatten(1)).view_as(direction)
        weights.sub_(step * (group["lr"] * norm / (step.norm() + _EPS)))
        weights.mul_(norm / weights.norm())
