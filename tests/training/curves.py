"""Loss curves of several recipes, by one process or by those of torchrun: ``-m tests.training.curves FILE.npz``."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset, Split
from nephros.distributed import DistributedContext, process_group
from nephros.evaluation.scoring import evaluate_model
from nephros.presets import RECIPES
from nephros.recipe import AugmentConfig, ModelConfig, Recipe
from nephros.training.model_init import init_model, input_spec
from nephros.training.progress import NullCallback
from nephros.training.trainer import Trainer
from tests.conftest import squares_dataset

CPU = torch.device("cpu")
COURSE = dataclasses.replace(RECIPES["course-1"], epochs=5)
# Smaller batches than the recipe's make the same 50 steps in a third of the time.
POSTER = dataclasses.replace(
    RECIPES["poster"], epochs=5, batch_size=48, model=dataclasses.replace(RECIPES["poster"].model, dropout=0.0)
)
GENTLE = dataclasses.replace(POSTER, optimizer=dataclasses.replace(POSTER.optimizer, lr=1e-4))
"""At the recipe's own rate rounding grows a thousandfold in three steps of one process too: float64 alone can follow."""
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
"""All that can go wrong: odd batches, a short last one, class weights, smoothing, averaged weights, augmentation."""
CASES: dict[str, tuple[Recipe, int, torch.dtype]] = {
    "course-1": (COURSE, 2230, torch.float32),
    "course-1, float64": (COURSE, 2230, torch.float64),
    "poster, gentle": (GENTLE, 480, torch.float32),
    "poster, float64": (POSTER, 480, torch.float64),
    "odd, float64": (ODD, 300, torch.float64),
    "even, float64": (dataclasses.replace(ODD, last_batch="balanced"), 300, torch.float64),
}
"""Recipe, training images and precision."""


class Recording(NullCallback):
    """A listener that keeps every step's loss and number of images."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.images = 0

    def on_step_end(self, epoch: int, n_images: int, loss: Tensor) -> None:
        """Keep the loss."""
        self.losses.append(loss)
        self.images += n_images


def uneven(n: int) -> Dataset:
    """Return n squares, of which the first classes have fewer than the last, and 557 to validate on."""
    whole = squares_dataset(2228, classes=8)
    keep = np.flatnonzero(np.random.default_rng(0).random(2228) < (1 + whole.train.labels) / 8)[:n]
    keep = keep if len(keep) == n else np.resize(np.arange(2228), n)
    return dataclasses.replace(whole, train=Split(whole.train.images[keep], whole.train.labels[keep]))


def fit_of(case: str, ranks: DistributedContext) -> Trainer:
    """Return a case's run, ready to start."""
    recipe, n, dtype = CASES[case]
    data = uneven(n)
    model = init_model(recipe, data.train, input_spec(data)).to(dtype)
    fit = Trainer(
        recipe,
        model,
        BatchLoader(data.train, CPU, context=ranks),
        BatchLoader(data.val, CPU, context=ranks),
        data.class_names,
    )
    fit.loss_fn.to(dtype)
    return fit


def curves(ranks: DistributedContext) -> dict[str, NDArray[Any]]:
    """Train every case; return its steps' losses, its epochs' rows, its last weights, and a first validation."""
    found = {}
    for case in CASES:
        fit, heard = fit_of(case, ranks), Recording()
        judged = evaluate_model(fit.model, fit.val_batches, fit.class_names)
        found[f"{case}: first probabilities"] = judged.probabilities
        found[f"{case}: first metrics"] = np.array([judged.metrics[key] for key in ("loss", "accuracy", "auc")])
        fit.run(None, heard)
        assert heard.images == fit.recipe.epochs * len(fit.train_batches)
        found[f"{case}: losses"] = torch.stack(heard.losses).numpy()
        rows = [dataclasses.astuple(row)[:-2] for row in fit.history]
        found[f"{case}: rows"] = np.array(rows, dtype=np.float64)
        weights = torch.cat([value.double().flatten() for value in fit.final_weights()[0].values()])
        everyone = ranks.all_gather(weights)
        assert torch.equal(everyone, everyone[:1].expand_as(everyone)), f"{case}: the ranks' weights differ"
        found[f"{case}: weights"] = weights.numpy()
        found[f"{case}: names"] = np.array(list(fit.model.state_dict()))
    return found


if __name__ == "__main__":
    with process_group() as ranks:
        found = curves(ranks)
        if ranks.is_main_process:
            np.savez(sys.argv[1], **found)  # type: ignore[arg-type]
