"""Training itself, of a network epoch by epoch or of a classical baseline at one go: what differs between the two."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nephros.data.batches import Batches
from nephros.data.dataset import Dataset
from nephros.distributed import Ranks
from nephros.errors import UserError
from nephros.files import write_text
from nephros.models.classifier import Classifier
from nephros.recipe import Recipe
from nephros.runs import RunFolder
from nephros.training import checkpoint
from nephros.training.classical.grid_search import learn
from nephros.training.classical.search_results import to_csv as tried_csv
from nephros.training.history import Epoch
from nephros.training.history import to_csv as history_csv
from nephros.training.progress import NoProgress, ShowProgress
from nephros.training.trainer import Fit


@dataclass(frozen=True)
class Taught:
    """What training came to."""

    model: Classifier
    """With the weights that are kept."""
    minutes: float
    """Spent in training, validation between epochs not counted."""
    epoch: int | None = None
    """Epoch (from 1) of the weights that are kept."""
    combination: str = ""
    """What a classical baseline chose on validation."""


def teach_network(
    folder: RunFolder,
    recipe: Recipe,
    model: Classifier,
    batches: dict[str, Batches],
    dataset: Dataset,
    targets: Tensor | None,
    ranks: Ranks,
) -> Taught:
    """Take a network from the folder's checkpoint, if there is one, to its end. Only the first rank writes and shows.

    `targets`, (n, classes) probabilities of the train split, are for recipes that follow teachers.
    """
    fit = Fit(recipe, model, batches["train"], batches["val"], dataset.class_names, targets)
    file = folder.file("checkpoint.pt")
    if file.exists():
        fit.load(checkpoint.load(file))
    done = ranks.stack(torch.tensor(len(fit.history)))
    if (done != done[0]).any():
        raise UserError(f"Not all processes see the same checkpoint: put {folder.root} where every machine reads it.")
    if ranks.first:
        with _Recorder(folder, recipe.epochs, fit.images) as progress:
            if fit.history:
                progress.resumed(fit.history)
            fit.run(partial(checkpoint.save, file), progress)
        write_text(folder.file("history.csv"), history_csv(fit.history))
    else:
        fit.run(None, NoProgress())
    weights, epoch = fit.final_weights()
    model.load_state_dict(weights)
    return Taught(model, sum(row.seconds for row in fit.history) / 60, epoch)


def teach_classical(
    folder: RunFolder, recipe: Recipe, dataset: Dataset, processor: torch.device, say: Callable[[str], None]
) -> Taught:
    """Learn a classical baseline from the beginning: what a killed run had tried is tried again, to the same end."""
    start = time.perf_counter()
    network, tried, place = learn(recipe, dataset, processor, say)
    minutes = (time.perf_counter() - start) / 60
    write_text(folder.file("tried.csv"), tried_csv(tried))
    say(f"chosen on validation: {tried[place].words}")
    channels = dataset.channels
    model = Classifier(network, [0.0] * channels, [1.0] * channels).to(processor).eval()
    return Taught(model, minutes, combination=tried[place].words)


class _Recorder(ShowProgress):
    """Shows progress and keeps history.csv up to date."""

    def __init__(self, folder: RunFolder, epochs: int, images: int) -> None:
        super().__init__(epochs, images)
        self._folder = folder

    def epoch(self, row: Epoch, rows: list[Epoch]) -> None:
        write_text(self._folder.file("history.csv"), history_csv(rows))
        super().epoch(row, rows)
