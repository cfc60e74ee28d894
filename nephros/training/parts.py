"""The parts of a training step that a recipe chooses: loss, optimiser and average of weights."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nephros.distributed import DistributedContext
from nephros.recipe import Recipe
from nephros.recipe_parts import OptimizerConfig
from nephros.training.muon import Muon


def derive_seed(seed: int, *stream: object) -> int:
    """Return a 63-bit seed of its own for each stream of random numbers, such as (epoch, 'order')."""
    text = ":".join(str(part) for part in (seed, *stream))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def build_loss(recipe: Recipe, class_counts: NDArray[np.int64], device: torch.device) -> nn.CrossEntropyLoss:
    """Return the mean cross-entropy with the recipe's label smoothing and class weights.

    `class_counts` is (classes,): images of each class in the train split. max-ratio is NephNet's: largest count / count.
    """
    weight = None
    if recipe.class_weights != "none":
        reference_count = class_counts.max() if recipe.class_weights == "max-ratio" else class_counts.mean()
        weight = torch.tensor(reference_count / class_counts, dtype=torch.float32, device=device)
    return nn.CrossEntropyLoss(weight=weight, label_smoothing=recipe.label_smoothing)


def sharded_loss(loss_fn: nn.CrossEntropyLoss, logits: Tensor, labels: Tensor, global_labels: Tensor) -> Tensor:
    """Return this rank's part of the mean loss of a batch: of (m, classes) logits, with (b,) labels over all ranks.

    The parts of all ranks sum to the mean, which torch takes over the weights of the labels where classes have weights.
    """
    total = F.cross_entropy(logits, labels, loss_fn.weight, reduction="sum", label_smoothing=loss_fn.label_smoothing)
    return total / (len(global_labels) if loss_fn.weight is None else loss_fn.weight[global_labels].sum())


def distillation_loss(
    loss: Tensor, logits: Tensor, soft_targets: Tensor, weight: float, global_batch_size: int
) -> Tensor:
    """Return the loss with the share `weight` replaced by the cross-entropy to (m, classes) probabilities."""
    soft_loss = F.cross_entropy(logits, soft_targets, reduction="sum") / global_batch_size
    return (1 - weight) * loss + weight * soft_loss


def all_reduce_gradients(network: nn.Module, context: DistributedContext, *scalars: Tensor) -> list[Tensor]:
    """Replace every gradient by its sum over all ranks, and return the scalars `scalars` summed likewise, in one exchange."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    flat = context.all_reduce(
        torch.cat([*(g.flatten() for g in gradients), *(m.to(gradients[0]).view(1) for m in scalars)])
    )
    *reduced_gradients, reduced_scalars = flat.split_with_sizes([*(g.numel() for g in gradients), len(scalars)])
    for gradient, total in zip(gradients, reduced_gradients, strict=True):
        gradient.copy_(total.view_as(gradient))
    return list(reduced_scalars)


def build_optimizer(config: OptimizerConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Return the recipe's optimiser over all parameters, in two groups when biases and norms are not decayed."""
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


class WeightEMA:
    """Exponential moving average of a network's weights and buffers: average = decay * average + (1 - decay) * now.

    The decay starts at (1 + steps) / (10 + steps) while that is less, so that the first weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take the network's present values in."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in network.state_dict().items():
            averaged = self.weights[name]
            if averaged.is_floating_point():
                averaged.lerp_(value, 1 - decay)
            else:
                averaged.copy_(value)


def cpu_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of a network's weights and buffers on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
