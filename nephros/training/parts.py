"""The parts of a training step that a recipe chooses: loss, optimiser and average of weights."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nephros.distributed import Ranks
from nephros.recipe import Recipe
from nephros.recipe_parts import Optimizer
from nephros.training.muon import Muon


def seed_for(seed: int, *stream: object) -> int:
    """Return a 63-bit seed of its own for each stream of random numbers, such as (epoch, 'order')."""
    text = ":".join(str(part) for part in (seed, *stream))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def loss_function(recipe: Recipe, counts: NDArray[np.int64], device: torch.device) -> nn.CrossEntropyLoss:
    """Return the mean cross-entropy with the recipe's label smoothing and class weights.

    `counts` is (classes,): images of each class in the train split. max-ratio is NephNet's: largest count / count.
    """
    weight = None
    if recipe.class_weights != "none":
        common = counts.max() if recipe.class_weights == "max-ratio" else counts.mean()
        weight = torch.tensor(common / counts, dtype=torch.float32, device=device)
    return nn.CrossEntropyLoss(weight=weight, label_smoothing=recipe.label_smoothing)


def part_of_mean(loss: nn.CrossEntropyLoss, logits: Tensor, labels: Tensor, whole: Tensor) -> Tensor:
    """Return what this rank's (m, classes) logits and (m,) labels add to the mean loss of a batch with labels `whole` (b,).

    The parts of all ranks sum to the mean, which torch takes over the weights of the labels where classes have weights.
    """
    total = F.cross_entropy(logits, labels, loss.weight, reduction="sum", label_smoothing=loss.label_smoothing)
    return total / (len(whole) if loss.weight is None else loss.weight[whole].sum())


def followed(loss: Tensor, logits: Tensor, targets: Tensor, share: float, batch: int) -> Tensor:
    """Return the loss with a share of it replaced by the cross-entropy to (m, classes) probabilities, over `batch` images."""
    other = F.cross_entropy(logits, targets, reduction="sum") / batch
    return (1 - share) * loss + share * other


def sum_gradients(network: nn.Module, ranks: Ranks, *more: Tensor) -> list[Tensor]:
    """Replace every gradient by its sum over all ranks, and return the scalars `more` summed likewise, in one exchange."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    flat = ranks.sum(torch.cat([*(g.flatten() for g in gradients), *(m.to(gradients[0]).view(1) for m in more)]))
    *sums, scalars = flat.split_with_sizes([*(g.numel() for g in gradients), len(more)])
    for gradient, total in zip(gradients, sums, strict=True):
        gradient.copy_(total.view_as(gradient))
    return list(scalars)


def optimizer(settings: Optimizer, network: nn.Module) -> torch.optim.Optimizer:
    """Return the recipe's optimiser over all parameters, in two groups when biases and norms are not decayed."""
    if settings.name == "muon":
        return Muon(network, settings.lr, settings.momentum, settings.rest_lr, settings.weight_decay)
    named = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decayed = [p for p in named if settings.decay_all or p.ndim > 1]
    bare = [p for p in named if not (settings.decay_all or p.ndim > 1)]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}]
    groups += [{"params": bare, "weight_decay": 0.0}] if bare else []
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.lr)


class Average:
    """Exponential moving average of a network's weights and buffers: average = decay * average + (1 - decay) * now.

    The decay starts at (1 + steps) / (10 + steps) while that is less, so that the first weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.values = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take the network's present values in."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in network.state_dict().items():
            held = self.values[name]
            if held.is_floating_point():
                held.lerp_(value, 1 - decay)
            else:
                held.copy_(value)


def clone_state(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of a network's weights and buffers on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
