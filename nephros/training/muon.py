"""Muon: steps along orthogonalized momentum, one filter after another or, on a GPU, many in few kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nephros.device import is_launch_bound

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


def orthogonalize_together(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Return `orthogonalize` of each (rows, columns) matrix, up to the order of sums, in a fraction of the kernels.

    Those with the same shorter side are one batch; columns of zeros, which bring them to one length, stay zeros.
    """
    transposed = [matrix.shape[0] > matrix.shape[1] for matrix in matrices]
    wide = [matrix.T if is_tall else matrix for matrix, is_tall in zip(matrices, transposed, strict=True)]
    results = list(wide)
    for rows in sorted({len(matrix) for matrix in wide}):
        indices = [i for i, matrix in enumerate(wide) if len(matrix) == rows]
        columns = max(wide[i].shape[1] for i in indices)
        x = torch.stack([F.pad(wide[i], (0, columns - wide[i].shape[1])) for i in indices])
        x = x / (torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True) + _EPS)
        a, b, c = NEWTON_SCHULZ_COEFFICIENTS
        for _ in range(NEWTON_SCHULZ_STEPS):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        for i, result in zip(indices, x, strict=True):
            results[i] = result[:, : wide[i].shape[1]]
    return [result.T if is_tall else result for result, is_tall in zip(results, transposed, strict=True)]


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
        self._device_lr: Tensor | None = None

    def set_device_lr(self, lr: float, device: torch.device) -> None:
        """Put the learning rate into the device's memory, from which steps on a GPU then read it: a recording keeps any other."""
        if self._device_lr is None:
            self._device_lr = torch.zeros((), device=device)
        self._device_lr.fill_(lr)

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
        if any(is_launch_bound(weights) for weights, _ in items):
            for group in self.param_groups:
                self._update_together([weights for weights, other in items if other is group], group)
            return loss
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

    @torch.no_grad()
    def _update_together(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Update parameters of a group as `_update` does each, in a third of the kernels."""
        if not weights:
            return
        gradients = [w.grad for w in weights if w.grad is not None]
        buffers = [self.state[w]["momentum_buffer"] for w in weights]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, gradients)
        directions = torch._foreach_add(gradients, buffers, alpha=group["momentum"])
        lr = group["lr"] if self._device_lr is None else self._device_lr
        if not group["muon"]:
            torch._foreach_sub_(weights, torch._foreach_mul(directions, lr * group["lr_scale"]))
            return
        matrices = orthogonalize_together([direction.flatten(1) for direction in directions])
        steps = [step.reshape(w.shape) for step, w in zip(matrices, weights, strict=True)]
        norms = torch.stack([self.state[w]["norm"] for w in weights])
        factors = lr * norms / (torch.stack(torch._foreach_norm(steps)) + _EPS)
        torch._foreach_sub_(weights, torch._foreach_mul(steps, factors.unbind()))
        torch._foreach_mul_(weights, (norms / torch.stack(torch._foreach_norm(weights))).unbind())
