"""Training of a run in its folder: of a network epoch by epoch, or of a classical baseline in one go."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.distributed import DistributedContext
from nephros.errors import FileError
from nephros.files import write_text
from nephros.models.classifier import Classifier
from nephros.reading import MalformedContent, file_errors
from nephros.recipe import Recipe
from nephros.runs import RunFolder, RunInfo
from nephros.training import checkpoint
from nephros.training.callbacks import Callback
from nephros.training.classical.grid_search import grid_search
from nephros.training.classical.search_results import search_results_to_csv
from nephros.training.history import EpochMetrics, history_to_csv
from nephros.training.model_init import input_spec
from nephros.training.progress import NullCallback, ProgressCallback
from nephros.training.trainer import Trainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """Outcome of training."""

    model: Classifier
    """The model with the weights to keep."""
    minutes: float
    """Training time, without the validation between epochs."""
    epoch: int | None = None
    """Epoch (from 1) of the weights; None for a classical baseline."""
    best_params: str = ""
    """Hyperparameters that a classical baseline chose on validation."""


def train_network(
    folder: RunFolder,
    info: RunInfo,
    recipe: Recipe,
    model: Classifier,
    batches: dict[str, BatchLoader],
    dataset: Dataset,
    soft_targets: Tensor | None,
    context: DistributedContext,
    callbacks: Sequence[Callback] = (),
    replicas: int = 1,
) -> TrainingResult:
    """Train a network to the end, from the folder's checkpoint if there is one. Only the first rank writes and logs.

    `batches` has the splits train and val. `soft_targets` (n, classes) are the teachers' probabilities of the train split, for
    recipes with a `distillation_weight`. `callbacks` follow the epochs, on the first rank. `replicas` is how many to train.
    """
    trainer = Trainer(
        recipe, model, batches["train"], batches["val"], dataset.class_names, soft_targets, info.freeze, replicas
    )
    checkpoint_path = folder.file("checkpoint.pt")
    # The hash with which the run began: a later version that adds a field to recipes would compute another.
    fingerprint = f"{info.recipe_hash} {dataset.provenance.sha256} {dataset.provenance.detail}"
    if os.path.lexists(checkpoint_path):
        with file_errors(checkpoint_path, "train again with a new `out`", name=f"The checkpoint {checkpoint_path}"):
            state = checkpoint.load(checkpoint_path)
            if state.get("fingerprint", fingerprint) != fingerprint:  # checkpoints from before it was stored lack it
                raise MalformedContent("it is of another recipe or other data")
            trainer.load_state_dict(state)
    epochs_done = context.all_gather(torch.tensor(len(trainer.history)))
    if (epochs_done != epochs_done[0]).any():
        raise FileError(
            checkpoint_path,
            f"The processes don't all see the same checkpoint: put {folder.root} where every machine can read it.",
        )
    if context.is_main_process:
        with _HistoryCallback(folder, recipe.epochs, trainer.images_per_epoch, callbacks) as progress:
            if trainer.history:
                progress.on_resume(trainer.history)
            trainer.run(lambda state: checkpoint.save(checkpoint_path, {**state, "fingerprint": fingerprint}), progress)
        write_text(folder.file("history.csv"), history_to_csv(trainer.history))
    else:
        trainer.run(None, NullCallback())
    weights, epoch = trainer.final_weights()
    model.load_state_dict(weights)
    return TrainingResult(model, sum(row.seconds for row in trainer.history) / 60, epoch)


def train_classical(folder: RunFolder, recipe: Recipe, dataset: Dataset, device: torch.device) -> TrainingResult:
    """Fit a classical baseline from the beginning; an interrupted search starts again and ends with the same model."""
    start = time.perf_counter()
    search = grid_search(recipe, dataset, device)
    minutes = (time.perf_counter() - start) / 60
    write_text(folder.file("search_results.csv"), search_results_to_csv(search.results))
    best_params = search.results[search.best_index].description
    logger.info("best on validation: %s", best_params)
    n_planes = input_spec(dataset).planes
    model = Classifier(search.model, [0.0] * n_planes, [1.0] * n_planes).to(device).eval()
    return TrainingResult(model, minutes, best_params=best_params)


class _HistoryCallback(ProgressCallback):
    """Shows progress, keeps history.csv up to date, and passes epochs on to the callbacks of a run."""

    def __init__(self, folder: RunFolder, epochs: int, images_per_epoch: int, callbacks: Sequence[Callback]) -> None:
        super().__init__(epochs, images_per_epoch)
        self._folder, self._callbacks = folder, callbacks

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        write_text(self._folder.file("history.csv"), history_to_csv(history))
        super().on_epoch_end(epoch, history)
        for callback in self._callbacks:
            callback.on_epoch_end(epoch, history)
