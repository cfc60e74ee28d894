"""Augmentations that were tried, each as a patch of a trainer before it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.ideas.losses import FunctionLoss, Patch
from nephros.training.trainer import Trainer


def progressive_resizing(first_size: int, until: float) -> Patch:
    """Train on images downsized to `first_size` pixels per side, growing to full size over the first `until` of the run."""

    def patch(trainer: Trainer) -> None:
        steps = trainer.recipe.epochs * -(-trainer.images_per_epoch // trainer.recipe.batch_size)
        forward, steps_done = trainer.step.forward, 0

        def resized(images: Tensor) -> Tensor:
            nonlocal steps_done
            side = min(28, first_size + round((28 - first_size) * steps_done / (until * steps) / 4) * 4)
            steps_done += 1
            if side < 28:
                images = F.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True)
            logits: Tensor = forward(images)
            return logits

        trainer.step.forward = resized

    return patch


def mixup(alpha: float) -> Patch:
    """Mixup (Zhang et al. 2018) within each batch."""

    def patch(trainer: Trainer) -> None:
        forward = trainer.step.forward
        batch_mix: dict[str, Any] = {}
        generator = torch.Generator().manual_seed(trainer.recipe.seed)

        def mix(images: Tensor) -> Tensor:
            order = torch.randperm(len(images), generator=generator)
            weight = float(torch._sample_dirichlet(torch.tensor([alpha, alpha]), generator)[0])
            batch_mix.update(order=order, weight=weight)
            x = images.float()
            logits: Tensor = forward(weight * x + (1 - weight) * x[order])
            return logits

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            loss_a, loss_b = F.cross_entropy(logits, labels), F.cross_entropy(logits, labels[batch_mix["order"]])
            mean: Tensor = batch_mix["weight"] * loss_a + (1 - batch_mix["weight"]) * loss_b
            return mean

        trainer.step.forward = mix
        trainer.step.loss_fn = FunctionLoss(loss)  # type: ignore[assignment]

    return patch


def _augmented(transform: Callable[[Tensor, torch.Generator], Tensor]) -> Patch:
    """Return a patch that transforms the images of each batch before the network, with the run's seed."""

    def patch(trainer: Trainer) -> None:
        forward = trainer.step.forward
        generator = torch.Generator().manual_seed(trainer.recipe.seed)
        trainer.step.forward = lambda images: forward(transform(images, generator))

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
    """Multiply each image by exp(u), with u uniform between -strength and strength."""

    def brightened(images: Tensor, generator: torch.Generator) -> Tensor:
        factor = ((torch.rand(len(images), generator=generator) * 2 - 1) * strength).exp()
        return images.float() * factor[:, None, None, None]

    return _augmented(brightened)
