"""A second round of fine-tuning, in which the network also learns from its own predictions on images without labels."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray

from nephros.data.split import Split
from nephros.evaluation.metrics import Floats
from nephros.finetuning.folds import Indices
from nephros.finetuning.network import EPOCHS, predict_images, train_method
from nephros.models.classifier import Classifier
from nephros.recipe import Recipe
from nephros.training.history import EpochMetrics

STEPS = 450
"""Optimizer steps of the second round."""
MAX_UNLABELED = 4000
"""Images without a label that are used, at most; more are drawn at random."""
BATCH_SIZE = 64
LABELED_SHARE = 0.25
"""Share of each batch that has labels, about: every image is repeated as often as that takes."""


def self_train(
    recipe: Recipe,
    start: Classifier,
    teacher: Classifier,
    train: Split,
    val: Split,
    unlabeled: NDArray[np.uint8],
    class_names: tuple[str, ...],
    device: torch.device,
) -> tuple[Classifier, list[EpochMetrics]]:
    """Train `start` on labels and on what `teacher` predicts for images without one; return the network with its epochs.

    Predictions stay probabilities, and each image is turned, moved and scaled before the second network sees it, as in
    self-training with noisy students (Xie et al., CVPR 2020).

    Args:
        recipe: which `nephros.finetuning.network.make_recipe` returns.
        start: a network whose last layer is fitted already.
        teacher: the same network, trained on the labels.
        train: the labeled images.
        val: scored after each epoch; it chooses nothing.
        unlabeled: (m, h, w) or (m, h, w, c) uint8, as `draw_unlabeled` returns them; at least one.
        class_names: of the classes.
        device: where to train.
    """
    n_classes = len(class_names)
    images = Split(unlabeled, np.zeros(len(unlabeled), np.int64))
    probabilities = predict_images(teacher, images, n_classes, recipe.tta_views, device)
    split, soft_targets = _join(train, unlabeled, probabilities)
    student_recipe = dataclasses.replace(
        recipe,
        batch_size=BATCH_SIZE,
        distillation_weight=1.0,
        passes_per_epoch=math.ceil(STEPS * BATCH_SIZE / (EPOCHS * len(split))),
    )
    return train_method(
        "network", student_recipe, start, split, val, class_names, device, torch.from_numpy(soft_targets)
    )


def draw_unlabeled(unlabeled: NDArray[np.uint8], usable: Indices, seed: int) -> NDArray[np.uint8]:
    """Return the unlabeled images at `usable`; where there are more than MAX_UNLABELED, so many of them, drawn at random."""
    if len(usable) > MAX_UNLABELED:
        usable = usable[np.sort(np.random.default_rng(seed).choice(len(usable), MAX_UNLABELED, replace=False))]
    return unlabeled[usable]


def _join(train: Split, unlabeled: NDArray[np.uint8], probabilities: Floats) -> tuple[Split, NDArray[np.float32]]:
    """Return all images in one split, the labeled ones repeated, and the (n, classes) probabilities to learn."""
    repeats = max(1, round(LABELED_SHARE / (1 - LABELED_SHARE) * len(unlabeled) / len(train)))
    labels = np.tile(train.labels, repeats)
    certain = np.eye(probabilities.shape[1])[labels]
    images = np.concatenate([*[train.images] * repeats, unlabeled])
    split = Split(images, np.concatenate([labels, probabilities.argmax(axis=1)]))
    return split, np.concatenate([certain, probabilities]).astype(np.float32)
