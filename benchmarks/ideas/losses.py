"""Losses and other changes of training that were tried, each as a patch of a run before it begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.ideas.optimisers import Lion
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
        trainer.loss_fn = FunctionLoss(function)  # type: ignore[assignment]

    return patch


def generalized_cross_entropy(q: float) -> Patch:
    """Generalised cross-entropy (Zhang & Sabuncu 2018): (1 - p^q) / q."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        log_p = F.log_softmax(logits, 1).gather(1, labels[:, None])
        return ((1 - (q * log_p).exp()) / q).mean()

    return _with_loss(loss)


def soft_bootstrapping(weight: float) -> Patch:
    """Soft bootstrapping (Reed et al. 2015): a share of each target is the network's own answer."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        log_p = F.log_softmax(logits, 1)
        self_entropy = -(log_p.detach().exp() * log_p).sum(1).mean()
        return (1 - weight) * F.nll_loss(log_p, labels) + weight * self_entropy

    return _with_loss(loss)


def symmetric_cross_entropy(weight: float) -> Patch:
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


def balanced_softmax(trainer: Trainer) -> None:
    """Balanced softmax (Ren et al. 2020): logits shifted by the logarithm of the classes' shares, in training alone."""
    counts = torch.bincount(trainer.train_batches.labels, minlength=len(trainer.class_names))
    shift = (counts / counts.sum()).log()
    trainer.loss_fn = FunctionLoss(lambda logits, labels: F.cross_entropy(logits + shift, labels))  # type: ignore[assignment]


def with_lion(weight_decay: float) -> Patch:
    """Lion in the optimiser's place."""

    def patch(trainer: Trainer) -> None:
        trainer.optimizer = Lion(trainer.model.parameters(), trainer.recipe.optimizer.lr, weight_decay)

    return patch


def fast_norm_biases(factor: float) -> Patch:
    """Give the shifts of normalisation layers `factor` times the rate (cifar10-airbench)."""

    def patch(trainer: Trainer) -> None:
        norm_biases = {m.bias for m in trainer.model.modules() if isinstance(m, nn.BatchNorm2d)}
        settings = trainer.recipe.optimizer
        groups = []
        for weights in trainer.model.parameters():
            decay = settings.weight_decay if weights.ndim > 1 else 0.0
            groups.append(
                {"params": [weights], "weight_decay": decay, "scale": factor if weights in norm_biases else 1.0}
            )
        trainer.optimizer = ScaledSGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)

    return patch


class ScaledSGD(torch.optim.SGD):
    """SGD with a factor of the rate a group."""

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take a step."""
        for group in self.param_groups:
            group["lr"] *= group["scale"]
        super().step(closure)


def progressive_resizing(first_size: int, until: float) -> Patch:
    """Train on images shrunk to `first_size` pixels a side, growing to their own size over the first `until` of the run."""

    def patch(trainer: Trainer) -> None:
        steps = trainer.recipe.epochs * -(-trainer.images_per_epoch // trainer.recipe.batch_size)
        forward, steps_done = trainer._forward, 0

        def resized(images: Tensor) -> Tensor:
            nonlocal steps_done
            side = min(28, first_size + round((28 - first_size) * steps_done / (until * steps) / 4) * 4)
            steps_done += 1
            if side < 28:
                images = F.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True)
            logits: Tensor = forward(images)
            return logits

        trainer._forward = resized

    return patch


def mixup(alpha: float) -> Patch:
    """Mixup (Zhang et al. 2018) within each batch."""

    def patch(trainer: Trainer) -> None:
        forward = trainer._forward
        batch_mix: dict[str, Any] = {}
        generator = torch.Generator().manual_seed(trainer.recipe.seed)

        def mix(images: Tensor) -> Tensor:
            order = torch.randperm(len(images), generator=generator)
            weight = float(torch._sample_dirichlet(torch.tensor([alpha, alpha]), generator)[0])
            batch_mix.update(order=order, share=weight)
            x = images.float()
            logits: Tensor = forward(weight * x + (1 - weight) * x[order])
            return logits

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            loss_a, loss_b = F.cross_entropy(logits, labels), F.cross_entropy(logits, labels[batch_mix["order"]])
            mean: Tensor = batch_mix["share"] * loss_a + (1 - batch_mix["share"]) * loss_b
            return mean

        trainer._forward = mix
        trainer.loss_fn = FunctionLoss(loss)  # type: ignore[assignment]

    return patch


def _augmented(transform: Callable[[Tensor, torch.Generator], Tensor]) -> Patch:
    """Return what puts `transform` of a batch's images before the network, with random numbers by the run's seed."""

    def patch(trainer: Trainer) -> None:
        forward = trainer._forward
        generator = torch.Generator().manual_seed(trainer.recipe.seed)
        trainer._forward = lambda images: forward(transform(images, generator))

    return patch


def cutout(side: int) -> Patch:
    """Blacken one square of each image (DeVries & Taylor 2017)."""

    def mask(images: Tensor, generator: torch.Generator) -> Tensor:
        height, width = images.shape[2:]
        corner = torch.randint(0, height - side + 1, (2, len(images), 1), generator=generator)
        rows, columns = torch.arange(height), torch.arange(width)
        in_rows = (rows >= corner[0]) & (rows < corner[0] + side)
        in_columns = (columns >= corner[1]) & (columns < corner[1] + side)
        return images.masked_fill((in_rows[:, :, None] & in_columns[:, None])[:, None], 0)

    return _augmented(mask)


def random_brightness(strength: float) -> Patch:
    """Multiply each image by a factor of exp(uniform of -spread to spread)."""

    def brightened(images: Tensor, generator: torch.Generator) -> Tensor:
        factor = ((torch.rand(len(images), generator=generator) * 2 - 1) * strength).exp()
        return images.float() * factor[:, None, None, None]

    return _augmented(brightened)
