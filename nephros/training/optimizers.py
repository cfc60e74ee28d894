"""Optimizers: torch's and Muon by the recipe's name, and the exchange of gradients between processes."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from nephros.device import is_launch_bound
from nephros.distributed import DistributedContext
from nephros.recipe import OptimizerConfig
from nephros.training.muon import Muon

DEVICE_OPTIONS = ("fused",)
"""Options of torch's optimizers that depend on the device alone."""


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
    fused = True if all(is_launch_bound(parameter) for parameter in trainable) else None
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused)
    optimizer_class = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return optimizer_class(groups, lr=config.lr, fused=fused)


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore a state, except for what depends on the device alone: on GPUs, torch's optimizers update all weights at once."""
    groups = [
        {**saved, **{key: current[key] for key in DEVICE_OPTIONS if key in current}}
        for saved, current in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})


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
