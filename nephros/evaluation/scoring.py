"""A model over a split -> Evaluation: frozen numbers with their provenance, saved whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nephros.console import progress_bar
from nephros.data.batches import BatchLoader
from nephros.errors import DivergedError, NephrosError
from nephros.evaluation.metrics import compute_metrics
from nephros.files import atomic_write, write_json
from nephros.runs import RunFolder

METRICS_FORMAT = "nephros-metrics-2"
"""Of metrics.json."""
PIXELS_PER_BATCH = 512 * 28 * 28
"""In a batch: large enough to be fast, small enough for wide networks on large images."""


@dataclass(frozen=True)
class Evaluation:
    """How a model did on one split."""

    metrics: dict[str, Any]
    """What metrics.json holds: n, accuracy, loss, auc, macro_*, per_class, confusion_matrix, provenance and so on."""
    probabilities: NDArray[np.float64]
    """(n, classes), in file order; each row sums to 1."""
    labels: NDArray[np.int64]
    """(n,), in file order."""

    @property
    def accuracy(self) -> float:
        """Share of images whose most probable class is the label."""
        return float(self.metrics["accuracy"])

    def save(self, metrics_file: Path, predictions_file: Path | None) -> None:
        """Write the predictions as npz, if named, and last the metrics as JSON, so that metrics mean a whole pair."""
        if predictions_file is not None:
            with atomic_write(predictions_file) as file:
                np.savez_compressed(file, probabilities=self.probabilities, labels=self.labels)
        write_json(metrics_file, self.metrics)

    @classmethod
    def from_run(cls, folder: RunFolder, split: str) -> Evaluation:
        """Read what a run stored when it was scored on a split; UserError as `load` raises it."""
        return cls.load(folder.file(split, "metrics.json"), folder.file(split, "predictions.npz"))

    @classmethod
    def load(cls, metrics_file: Path, predictions_file: Path) -> Evaluation:
        """Read what `save` wrote; UserError, naming the file, when one is missing or damaged."""
        try:
            metrics = json.loads(metrics_file.read_text(encoding="utf-8"))
            with np.load(predictions_file, allow_pickle=False) as arrays:
                return cls(metrics, arrays["probabilities"], arrays["labels"])
        except FileNotFoundError as error:
            raise NephrosError(f"{error.filename} is missing: run `nephros evaluate` on the run first.") from None
        except Exception:
            raise NephrosError(
                f"{metrics_file.parent} holds damaged results: run `nephros evaluate` on the run again."
            ) from None


def ensemble(evaluations: Sequence[Evaluation], class_names: tuple[str, ...]) -> Evaluation:
    """Return what the mean of several models' probabilities on the same images comes to; the rest is the first one's."""
    first = evaluations[0]
    probabilities = np.mean([evaluation.probabilities for evaluation in evaluations], axis=0)
    metrics = {**first.metrics, **compute_metrics(probabilities, first.labels, class_names)}
    return Evaluation(metrics, probabilities, first.labels)


@torch.no_grad()
def predict_probabilities(
    model: nn.Module, batches: BatchLoader, n_classes: int, description: str = ""
) -> NDArray[np.float64]:
    """Return (n, classes) float64 probabilities of a split in file order, in evaluation mode and without autocast.

    Of several ranks each predicts its share, and all return the whole. `description` is a word for a progress bar.
    """
    batch_size = max(1, PIXELS_PER_BATCH // batches.pixels_per_image)
    was_training = model.training
    model.eval()
    probabilities = torch.zeros(len(batches), n_classes, dtype=torch.float64)
    batches_of_rank = batches.iter_local_batches(batch_size)
    if description and batches.context.is_main_process:
        batches_of_rank = progress_bar(
            batches_of_rank, description, math.ceil(len(batches) / batch_size / batches.context.world_size)
        )
    for rows, images in batches_of_rank:
        probabilities[rows] = torch.softmax(model(images).double(), dim=1).cpu()
    model.train(was_training)
    return batches.context.all_reduce(probabilities).numpy()  # all but one rank's are zeros, so that the sum is exact


def evaluate_model(
    model: nn.Module, batches: BatchLoader, class_names: tuple[str, ...], description: str = ""
) -> Evaluation:
    """Return the Evaluation of a model that maps uint8 (n, c, h, w) to logits; UserError when it answers NaN.

    `description` is a word for a progress bar, for what takes long.
    """
    probabilities = predict_probabilities(model, batches, len(class_names), description)
    labels = batches.labels.cpu().numpy()
    if not np.isfinite(probabilities).all():
        raise DivergedError("The network answers NaN: its training diverged; lower --optimizer.lr and train again.")
    return Evaluation(compute_metrics(probabilities, labels, class_names), probabilities, labels)
