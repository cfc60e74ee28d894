"""Training itself, of a network epoch by epoch or of a classical baseline at one go: what differs between the two."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.distributed import DistributedContext
from nephros.errors import NephrosError
from nephros.files import write_text
from nephros.models.classifier import Classifier
from nephros.recipe import Recipe
from nephros.runs import RunFolder
from nephros.training import checkpoint
from nephros.training.classical.grid_search import grid_search
from nephros.training.classical.search_results import search_results_to_csv as tried_csv
from nephros.training.history import EpochMetrics
from nephros.training.history import history_to_csv as history_csv
from nephros.training.progress import NullCallback, ProgressCallback
from nephros.training.trainer import Trainer


@dataclass(frozen=True)
class TrainingResult:
    """What training came to."""

    model: Classifier
    """With the weights that are kept."""
    minutes: float
    """Spent in training, validation between epochs not counted."""
    epoch: int | None = None
    """Epoch (from 1) of the weights that are kept."""
    best_params: str = ""
    """What a classical baseline chose on validation."""


def train_network(
    folder: RunFolder,
    recipe: Recipe,
    model: Classifier,
    batches: dict[str, BatchLoader],
    dataset: Dataset,
    soft_targets: Tensor | None,
    context: DistributedContext,
) -> TrainingResult:
    """Take a network from the folder's checkpoint, if there is one, to its end. Only the first rank writes and shows.

    `soft_targets`, (n, classes) probabilities of the train split, are for recipes that follow teachers.
    """
    trainer = Trainer(recipe, model, batches["train"], batches["val"], dataset.class_names, soft_targets)
    checkpoint_path = folder.file("checkpoint.pt")
    if checkpoint_path.exists():
        trainer.load_state_dict(checkpoint.load(checkpoint_path))
    epochs_done = context.all_gather(torch.tensor(len(trainer.history)))
    if (epochs_done != epochs_done[0]).any():
        raise NephrosError(
            f"Not all processes see the same checkpoint: put {folder.root} where every machine reads it."
        )
    if context.is_main_process:
        with _HistoryCallback(folder, recipe.epochs, trainer.images_per_epoch) as progress:
            if trainer.history:
                progress.on_resume(trainer.history)
            trainer.run(partial(checkpoint.save, checkpoint_path), progress)
        write_text(folder.file("history.csv"), history_csv(trainer.history))
    else:
        trainer.run(None, NullCallback())
    weights, epoch = trainer.final_weights()
    model.load_state_dict(weights)
    return TrainingResult(model, sum(row.seconds for row in trainer.history) / 60, epoch)


def train_classical(
    folder: RunFolder, recipe: Recipe, dataset: Dataset, device: torch.device, say: Callable[[str], None]
) -> TrainingResult:
    """Learn a classical baseline from the beginning: what a killed run had tried is tried again, to the same end."""
    start = time.perf_counter()
    network, search_results, best_index = grid_search(recipe, dataset, device, say)
    minutes = (time.perf_counter() - start) / 60
    write_text(folder.file("search_results.csv"), tried_csv(search_results))
    say(f"chosen on validation: {search_results[best_index].description}")
    n_channels = dataset.channels
    model = Classifier(network, [0.0] * n_channels, [1.0] * n_channels).to(device).eval()
    return TrainingResult(model, minutes, best_params=search_results[best_index].description)


class _HistoryCallback(ProgressCallback):
    """Shows progress and keeps history.csv up to date."""

    def __init__(self, folder: RunFolder, epochs: int, images_per_epoch: int) -> None:
        super().__init__(epochs, images_per_epoch)
        self._folder = folder

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        write_text(self._folder.file("history.csv"), history_csv(history))
        super().on_epoch_end(epoch, history)
