"""Methods that train the network itself: its last stage, all of it, or a small one from the beginning."""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch

from nephros.data.batches import BatchLoader
from nephros.data.split import Split
from nephros.evaluation.metrics import Floats
from nephros.evaluation.scoring import predict_probabilities
from nephros.models.classifier import Classifier, InputSpec
from nephros.models.stages import network_stages
from nephros.models.tta import TTAClassifier
from nephros.presets import RECIPES
from nephros.recipe import AugmentConfig, LRScheduleConfig, ModelConfig, OptimizerConfig, Recipe
from nephros.training.history import EpochMetrics
from nephros.training.model_init import init_model
from nephros.training.progress import NullCallback
from nephros.training.small_data import ADAPTABLE_FIELDS, adapt_recipe
from nephros.training.trainer import Trainer

LEARNING_RATES = {"last-stage": 1e-3, "network": 3e-4, "self-training": 3e-4}
"""Peak learning rates of AdamW."""
EPOCHS, STEPS, BATCH_SIZE = 5, 450, 32
AUGMENT = AugmentConfig(rotate=180, translate=0.07, scale=0.1, interpolation="bilinear")
"""Any rotation, two pixels of 28, and a tenth in size; with shifts alone, a few hundred images are learned by heart."""
UNAUGMENTED_EPOCHS = 1
"""Last epochs without it: turned images are blurred and have black corners, and a network whose batch normalization expects those
prefers some classes (up to 14 points less accuracy on X-rays of the chest). From scratch, the statistics are estimated anyway."""


@dataclass(frozen=True)
class FittedMethod:
    """A method, fitted to images."""

    model: Classifier
    recipe: Recipe
    history: list[EpochMetrics]
    """Empty for the head alone."""
    C: float | None
    """Of the head; None from scratch."""


def make_recipe(method: str, model: ModelConfig, n_images: int, seed: int, tta_views: int) -> Recipe:
    """Return the recipe of a method for `n_images` training images; for ``self-training``, of its first round."""
    if method == "scratch":
        recipe, _ = adapt_recipe(RECIPES["nephros-fast"], n_images, ADAPTABLE_FIELDS)
        source = "nephros finetune: from scratch"
        return dataclasses.replace(recipe, name="finetune-scratch", source=source, augment=AUGMENT, seed=seed)
    recipe = Recipe(
        name=f"finetune-{method}",
        source=f"nephros finetune: {method}",
        model=model,
        last_batch="balanced",
        tta_views=tta_views,
        seed=seed,
    )
    if method == "head":
        return dataclasses.replace(recipe, epochs=1)
    return dataclasses.replace(
        recipe,
        optimizer=OptimizerConfig(
            name="adamw", lr=LEARNING_RATES[method], weight_decay=0.01, decay_norm_and_bias=False
        ),
        schedule=LRScheduleConfig(name="linear", warmup=0.1),
        augment=dataclasses.replace(
            AUGMENT,
            flips="none" if model.network == "equivariant" else "dihedral",
            unaugmented_epochs=UNAUGMENTED_EPOCHS,
        ),
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        passes_per_epoch=math.ceil(STEPS * BATCH_SIZE / (EPOCHS * n_images)),
        amp="native",
    )


def frozen_stages(method: str, classifier: Classifier) -> list[str]:
    """Return the stages of the network that keep their weights in a method: all but the last and the head, or none."""
    return list(network_stages(classifier.network))[:-2] if method == "last-stage" else []


def train_method(
    method: str,
    recipe: Recipe,
    start: Classifier,
    train: Split,
    val: Split,
    class_names: tuple[str, ...],
    device: torch.device,
    soft_targets: torch.Tensor | None = None,
) -> tuple[Classifier, list[EpochMetrics]]:
    """Train a copy of `start`, whose last layer is fitted already, or a new network; return it with its epochs.

    `val` is scored after each epoch and chooses nothing: the weights are the last epoch's. `soft_targets` are (n, classes)
    probabilities for the images of `train`, for a recipe with a `distillation_weight`.
    """
    model = copy.deepcopy(start)
    if method == "scratch":
        height, width = train.images.shape[1:3]
        channels = 1 if train.images.ndim == 3 else train.images.shape[3]
        model = init_model(recipe, train, InputSpec(channels, height, width, len(class_names)))
    train_batches, val_batches = (BatchLoader(split, device) for split in (train, val))
    freeze = frozen_stages(method, model)
    trainer = Trainer(recipe, model, train_batches, val_batches, class_names, soft_targets, freeze)
    trainer.run(None, NullCallback())
    return model.requires_grad_(True).eval(), trainer.history


def predict_images(
    classifier: Classifier, split: Split, n_classes: int, tta_views: int, device: torch.device
) -> Floats:
    """Return the (n, classes) probabilities of a split's images, averaged over the views."""
    return np.asarray(
        predict_probabilities(TTAClassifier(classifier.to(device), tta_views), BatchLoader(split, device), n_classes)
    )
