"""Losses and other changes of training that were tried, each as a patch of a run before it begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.ideas.optimisers import Lion
from nephros.training.trainer import Fit

Patch = Callable[[Fit], None]


class Loss(nn.Module):
    """A loss of (b, classes) logits and (b,) labels."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss."""
        return self.function(logits.float(), labels)


def _with_loss(function: Callable[[Tensor, Tensor], Tensor]) -> Patch:
    def patch(fit: Fit) -> None:
        fit.loss = Loss(function)  # type: ignore[assignment]

    return patch


def generalised(q: float) -> Patch:
    """Generalised cross-entropy (Zhang & Sabuncu 2018): (1 - p^q) / q."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        log_p = F.log_softmax(logits, 1).gather(1, labels[:, None])
        return ((1 - (q * log_p).exp()) / q).mean()

    return _with_loss(loss)


def bootstrapped(share: float) -> Patch:
    """Soft bootstrapping (Reed et al. 2015): a share of each target is the network's own answer."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        log_p = F.log_softmax(logits, 1)
        own = -(log_p.detach().exp() * log_p).sum(1).mean()
        return (1 - share) * F.nll_loss(log_p, labels) + share * own

    return _with_loss(loss)


def symmetric(weight: float) -> Patch:
    """Symmetric cross-entropy (Wang et al. 2019): plus `weight` times the reverse one, log 0 taken as -4."""

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


def balanced(fit: Fit) -> None:
    """Balanced softmax (Ren et al. 2020): logits shifted by the logarithm of the classes' shares, in training alone."""
    counts = torch.bincount(fit.train_batches.labels, minlength=len(fit.class_names))
    shift = (counts / counts.sum()).log()
    fit.loss = Loss(lambda logits, labels: F.cross_entropy(logits + shift, labels))  # type: ignore[assignment]


def with_lion(weight_decay: float) -> Patch:
    """Lion in the optimiser's place."""

    def patch(fit: Fit) -> None:
        fit.optimizer = Lion(fit.model.parameters(), fit.recipe.optimizer.lr, weight_decay)

    return patch


def fast_shifts(factor: float) -> Patch:
    """Give the shifts of normalisation layers `factor` times the rate (cifar10-airbench)."""

    def patch(fit: Fit) -> None:
        shifts = {m.bias for m in fit.model.modules() if isinstance(m, nn.BatchNorm2d)}
        settings = fit.recipe.optimizer
        groups = []
        for weights in fit.model.parameters():
            decay = settings.weight_decay if weights.ndim > 1 else 0.0
            groups.append({"params": [weights], "weight_decay": decay, "scale": factor if weights in shifts else 1.0})
        fit.optimizer = Scaled(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)

    return patch


class Scaled(torch.optim.SGD):
    """SGD with a factor of the rate a group."""

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take a step."""
        for group in self.param_groups:
            group["lr"] *= group["scale"]
        super().step(closure)


def growing(first: int, until: float) -> Patch:
    """Train on images shrunk to `first` pixels a side, growing to their own size over the first `until` of the run."""

    def patch(fit: Fit) -> None:
        steps = fit.recipe.epochs * -(-fit.images // fit.recipe.batch_size)
        forward, done = fit._forward, 0

        def resized(images: Tensor) -> Tensor:
            nonlocal done
            side = min(28, first + round((28 - first) * done / (until * steps) / 4) * 4)
            done += 1
            if side < 28:
                images = F.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True)
            logits: Tensor = forward(images)
            return logits

        fit._forward = resized

    return patch


def mixed_up(alpha: float) -> Patch:
    """Mixup (Zhang et al. 2018) within each batch."""

    def patch(fit: Fit) -> None:
        forward = fit._forward
        held: dict[str, Any] = {}
        generator = torch.Generator().manual_seed(fit.recipe.seed)

        def mixing(images: Tensor) -> Tensor:
            order = torch.randperm(len(images), generator=generator)
            share = float(torch._sample_dirichlet(torch.tensor([alpha, alpha]), generator)[0])
            held.update(order=order, share=share)
            x = images.float()
            logits: Tensor = forward(share * x + (1 - share) * x[order])
            return logits

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            one, other = F.cross_entropy(logits, labels), F.cross_entropy(logits, labels[held["order"]])
            mean: Tensor = held["share"] * one + (1 - held["share"]) * other
            return mean

        fit._forward = mixing
        fit.loss = Loss(loss)  # type: ignore[assignment]

    return patch


def _changed(change: Callable[[Tensor, torch.Generator], Tensor]) -> Patch:
    """Return what puts `change` of a batch's images before the network, with random numbers by the run's seed."""

    def patch(fit: Fit) -> None:
        forward = fit._forward
        generator = torch.Generator().manual_seed(fit.recipe.seed)
        fit._forward = lambda images: forward(change(images, generator))

    return patch


def cut_out(side: int) -> Patch:
    """Blacken one square of each image (DeVries & Taylor 2017)."""

    def cut(images: Tensor, generator: torch.Generator) -> Tensor:
        height, width = images.shape[2:]
        corner = torch.randint(0, height - side + 1, (2, len(images), 1), generator=generator)
        rows, columns = torch.arange(height), torch.arange(width)
        down = (rows >= corner[0]) & (rows < corner[0] + side)
        across = (columns >= corner[1]) & (columns < corner[1] + side)
        return images.masked_fill((down[:, :, None] & across[:, None])[:, None], 0)

    return _changed(cut)


def brightness(spread: float) -> Patch:
    """Multiply each image by a factor of exp(uniform of -spread to spread)."""

    def brightened(images: Tensor, generator: torch.Generator) -> Tensor:
        factor = ((torch.rand(len(images), generator=generator) * 2 - 1) * spread).exp()
        return images.float() * factor[:, None, None, None]

    return _changed(brightened)
