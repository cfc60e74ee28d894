"""Losses: cross-entropy with class weights and label smoothing, its parts over several processes, and distillation."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nephros.recipe import Recipe


def build_loss(recipe: Recipe, class_counts: NDArray[np.int64], device: torch.device) -> nn.CrossEntropyLoss:
    """Return the mean cross-entropy with the recipe's label smoothing and class weights.

    `class_counts` (classes,) holds the number of training images per class. max-ratio weights are those of NephNet: largest
    count / count. A class without training images has weight 0.
    """
    weight = None
    if recipe.class_weights != "none":
        reference_count = class_counts.max() if recipe.class_weights == "max-ratio" else class_counts.mean()
        weight = torch.tensor(
            (class_counts > 0) * reference_count / np.maximum(class_counts, 1), dtype=torch.float32, device=device
        )
    return nn.CrossEntropyLoss(weight=weight, label_smoothing=recipe.label_smoothing)


def sharded_loss(loss_fn: nn.CrossEntropyLoss, logits: Tensor, labels: Tensor, global_labels: Tensor) -> Tensor:
    """Return one rank's part of the mean loss over a batch; the parts of all ranks sum to the mean.

    `logits` (m, classes) and `labels` (m,) belong to this rank's images, `global_labels` (b,) to the whole batch. With class
    weights the mean is weighted by those of the labels, as torch defines it.
    """
    total = F.cross_entropy(logits, labels, loss_fn.weight, reduction="sum", label_smoothing=loss_fn.label_smoothing)
    return total / (len(global_labels) if loss_fn.weight is None else loss_fn.weight[global_labels].sum())


def distillation_loss(
    loss: Tensor, logits: Tensor, soft_targets: Tensor, weight: float, global_batch_size: int
) -> Tensor:
    """Return (1 - weight) * loss + weight * cross-entropy to the teachers' probabilities (Hinton et al. 2015).

    `logits` and `soft_targets` are (m, classes) of this rank's images; the cross-entropy is summed over them and divided by
    `global_batch_size`, so that the parts of all ranks sum to its mean.
    """
    soft_loss = F.cross_entropy(logits, soft_targets, reduction="sum") / global_batch_size
    return (1 - weight) * loss + weight * soft_loss
