"""Losses that were tried, each as a patch of a trainer before it runs."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nephros.training.trainer import Trainer

Patch = Callable[[Trainer], None]


class FunctionLoss(nn.Module):
    """A loss of (b, classes) logits and (b,) labels."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss."""
        return self.function(logits.float(), labels)


def _with_loss(function: Callable[[Tensor, Tensor], Tensor]) -> Patch:
    def patch(trainer: Trainer) -> None:
        trainer.step.loss_fn = FunctionLoss(function)  # type: ignore[assignment]

    return patch


def generalized_cross_entropy(q: float) -> Patch:
    """Generalized cross-entropy (Zhang & Sabuncu 2018): (1 - p^q) / q."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        log_p = F.log_softmax(logits, 1).gather(1, labels[:, None])
        return ((1 - (q * log_p).exp()) / q).mean()

    return _with_loss(loss)


def soft_bootstrapping(weight: float) -> Patch:
    """Soft bootstrapping (Reed et al. 2015): a share of each target is the network's own prediction."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        log_p = F.log_softmax(logits, 1)
        self_entropy = -(log_p.detach().exp() * log_p).sum(1).mean()
        return (1 - weight) * F.nll_loss(log_p, labels) + weight * self_entropy

    return _with_loss(loss)


def symmetric_cross_entropy(weight: float) -> Patch:
    """Symmetric cross-entropy (Wang et al. 2019): plus `weight` times the reverse cross-entropy, with log 0 as -4."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        p = F.softmax(logits, 1).gather(1, labels[:, None])
        return F.cross_entropy(logits, labels) + weight * 4 * (1 - p).mean()

    return _with_loss(loss)


def focal(gamma: float) -> Patch:
    """Focal loss (Lin et al. 2017)."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        log_p = F.log_softmax(logits, 1).gather(1, labels[:, None])
        return -((1 - log_p.exp()) ** gamma * log_p).mean()

    return _with_loss(loss)


def balanced_softmax(trainer: Trainer) -> None:
    """Balanced softmax (Ren et al. 2020): logits shifted by the logarithm of the class shares, in training only."""
    counts = torch.bincount(trainer.train_batches.labels, minlength=len(trainer.class_names))
    shift = (counts / counts.sum()).log()
    trainer.step.loss_fn = FunctionLoss(lambda logits, labels: F.cross_entropy(logits + shift, labels))  # type: ignore[assignment]
