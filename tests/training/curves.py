"""Loss curves of several recipes, in one process or in those of torchrun: ``-m tests.training.curves FILE.npz``."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.data.split import Split
from nephros.data.volumes import slices_last
from nephros.distributed import DistributedContext, process_group
from nephros.evaluation.scoring import evaluate_model
from nephros.presets import RECIPES
from nephros.recipe import AugmentConfig, ModelConfig, Recipe
from nephros.training.model_init import init_model, input_spec
from nephros.training.progress import NullCallback
from nephros.training.trainer import Trainer
from tests.conftest import squares_dataset
from tests.depth_pairs import depth_pairs

CPU = torch.device("cpu")
COURSE = dataclasses.replace(RECIPES["course-1"], epochs=5)
# Smaller batches than the recipe's make the same 50 steps in a third of the time.
POSTER = dataclasses.replace(
    RECIPES["poster"], epochs=5, batch_size=48, model=dataclasses.replace(RECIPES["poster"].model, dropout=0.0)
)
GENTLE = dataclasses.replace(POSTER, optimizer=dataclasses.replace(POSTER.optimizer, lr=1e-4))
"""At the recipe's own learning rate rounding errors grow a thousandfold in three steps even in one process, except in float64."""
ODD = Recipe(
    model=ModelConfig(network="compact", base_channels=8),
    optimizer=dataclasses.replace(RECIPES["compact"].optimizer, lr=0.02),
    augment=AugmentConfig(flips="dihedral", shift=2, rotate=10, scale=0.1, interpolation="bilinear"),
    epochs=2,
    batch_size=37,
    class_weights="max-ratio",
    label_smoothing=0.1,
    ema_decay=0.9,
    checkpoint="best",
    normalize="dataset",
)
"""Everything that could differ: odd batches, a short last one, class weights, smoothing, averaged weights, augmentation."""
VOLUMES = dataclasses.replace(
    RECIPES["nephnet3d"],
    model=dataclasses.replace(RECIPES["nephnet3d"].model, base_channels=2, dropout=0.0),
    optimizer=dataclasses.replace(RECIPES["nephnet3d"].optimizer, lr=1e-4),  # at which rounding errors don't grow
    epochs=2,
    batch_size=37,
)
CASES: dict[str, tuple[Recipe, int, torch.dtype]] = {
    "course-1": (COURSE, 2230, torch.float32),
    "course-1, float64": (COURSE, 2230, torch.float64),
    "poster, gentle": (GENTLE, 480, torch.float32),
    "poster, float64": (POSTER, 480, torch.float64),
    "odd, float64": (ODD, 300, torch.float64),
    "balanced, float64": (dataclasses.replace(ODD, last_batch="balanced"), 300, torch.float64),
    "volumes, float64": (VOLUMES, 300, torch.float64),
}
"""Recipe, number of training images and precision."""


class RecordingCallback(NullCallback):
    """Callback that keeps the loss of every step and the number of images."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.n_images = 0

    def on_step_end(self, epoch: int, n_images: int, loss: Tensor) -> None:
        """Keep the loss."""
        self.losses.append(loss)
        self.n_images += n_images


def imbalanced_squares(n: int) -> Dataset:
    """Return squares with n training images, more of the later classes, and 557 validation images."""
    squares = squares_dataset(2228, classes=8)
    keep = np.flatnonzero(np.random.default_rng(0).random(2228) < (1 + squares.train.labels) / 8)[:n]
    keep = keep if len(keep) == n else np.resize(np.arange(2228), n)
    return dataclasses.replace(squares, train=Split(squares.train.images[keep], squares.train.labels[keep]))


def paired_volumes(n: int) -> Dataset:
    """Return volumes, n of them for training."""
    volumes, labels = depth_pairs(n + 100)
    splits = (volumes[:n], labels[:n]), (volumes[n:], labels[n:])
    train, val = (Split(slices_last(images).copy(), classes) for images, classes in splits)
    return dataclasses.replace(Dataset.from_arrays(volumes, labels, volumes=True), train=train, val=val)


def make_trainer(case: str, context: DistributedContext) -> Trainer:
    """Return the trainer of a case."""
    recipe, n, dtype = CASES[case]
    data = paired_volumes(n) if recipe is VOLUMES else imbalanced_squares(n)
    model = init_model(recipe, data.train, input_spec(data)).to(dtype)
    trainer = Trainer(
        recipe,
        model,
        BatchLoader(data.train, CPU, context=context),
        BatchLoader(data.val, CPU, context=context),
        data.class_names,
    )
    trainer.step.loss_fn.to(dtype)
    return trainer


def curves(context: DistributedContext) -> dict[str, NDArray[Any]]:
    """Train every case; return the losses of its steps, its history and final weights, and its evaluation before training."""
    results = {}
    for case in CASES:
        trainer, callback = make_trainer(case, context), RecordingCallback()
        evaluation = evaluate_model(trainer.model, trainer.val_batches, trainer.class_names)
        results[f"{case}: first probabilities"] = evaluation.probabilities
        results[f"{case}: first metrics"] = np.array(
            [getattr(evaluation.metrics, key) for key in ("loss", "accuracy", "auc")]
        )
        trainer.run(None, callback)
        assert callback.n_images == trainer.recipe.epochs * len(trainer.train_batches)
        results[f"{case}: losses"] = torch.stack(callback.losses).numpy()
        rows = [dataclasses.astuple(row)[:-2] for row in trainer.history]
        results[f"{case}: rows"] = np.array(rows, dtype=np.float64)
        weights = torch.cat([value.double().flatten() for value in trainer.final_weights()[0].values()])
        all_weights = context.all_gather(weights)
        assert torch.equal(all_weights, all_weights[:1].expand_as(all_weights)), f"{case}: the ranks' weights differ"
        results[f"{case}: weights"] = weights.numpy()
        results[f"{case}: names"] = np.array(list(trainer.model.state_dict()))
    return results


if __name__ == "__main__":
    with process_group() as context:
        results = curves(context)
        if context.is_main_process:
            np.savez(sys.argv[1], **results)  # type: ignore[arg-type]
