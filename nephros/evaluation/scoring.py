"""Evaluating a model on a split: its probabilities, and the metrics that come from them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nephros.console import progress_bar
from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.errors import DivergedError, FileError, IncompatibleError, IncompleteError
from nephros.evaluation.metrics import CONTEXT_FIELDS, Metrics, compute_metrics
from nephros.files import atomic_write
from nephros.runs import RunFolder, RunInfo

PIXELS_PER_BATCH = 512 * 28 * 28
"""Pixels in a batch: large enough to be fast, small enough for wide networks on large images."""


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a model on one split, and their metrics."""

    metrics: Metrics
    probabilities: NDArray[np.float64]
    """(n, classes), in file order; each row sums to 1."""
    labels: NDArray[np.int64]
    """(n,), in file order."""

    @property
    def accuracy(self) -> float:
        """Share of images whose most probable class is the label."""
        return self.metrics.accuracy

    def save(self, metrics_file: Path, predictions_file: Path | None) -> None:
        """Write the predictions as npz, where a file is named, then the metrics as JSON: metrics imply predictions."""
        if predictions_file is not None:
            with atomic_write(predictions_file) as file:
                np.savez_compressed(file, probabilities=self.probabilities, labels=self.labels)
        self.metrics.save(metrics_file)

    @classmethod
    def from_run(cls, folder: RunFolder, split: str) -> Evaluation:
        """Read a run's stored evaluation of val or test; raises as `load` does."""
        return cls.load(folder.file(split, "metrics.json"), folder.file(split, "predictions.npz"))

    @classmethod
    def load(cls, metrics_file: Path, predictions_file: Path) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            IncompleteError: a file is missing.
            FileError: a file is damaged.
        """
        metrics = Metrics.load(metrics_file)
        try:
            with np.load(predictions_file, allow_pickle=False) as arrays:
                return cls(metrics, arrays["probabilities"], arrays["labels"])
        except FileNotFoundError:
            message = f"{predictions_file} is missing: evaluate the run first, with `nephros.evaluate(RUN)`."
            raise IncompleteError(message) from None
        except Exception:
            message = f"{predictions_file} is damaged: evaluate the run again, with `nephros.evaluate(RUN)`."
            raise FileError(predictions_file, message) from None


def ensemble(evaluations: Sequence[Evaluation], class_names: tuple[str, ...]) -> Evaluation:
    """Return the evaluation of the mean of several models' probabilities on the same images, in the first one's context."""
    first = evaluations[0]
    probabilities = np.mean([evaluation.probabilities for evaluation in evaluations], axis=0)
    metrics = compute_metrics(probabilities, first.labels, class_names)
    metrics = dataclasses.replace(metrics, **{name: getattr(first.metrics, name) for name in CONTEXT_FIELDS})
    return Evaluation(metrics, probabilities, first.labels)


@torch.no_grad()
def predict_probabilities(
    model: nn.Module, batches: BatchLoader, n_classes: int, description: str = ""
) -> NDArray[np.float64]:
    """Return (n, classes) float64 probabilities of a split in file order, in evaluation mode and without autocast.

    Of several ranks each predicts its share, and all return the whole. `description` labels a progress bar; there is none
    without it.
    """
    batch_size = max(1, PIXELS_PER_BATCH // batches.pixels_per_image)
    was_training = model.training
    model.eval()
    probabilities = torch.zeros(len(batches), n_classes, dtype=torch.float64)
    local_batches = batches.iter_local_batches(batch_size)
    if description and batches.context.is_main_process:
        n_batches = math.ceil(len(batches) / batch_size / batches.context.world_size)
        local_batches = progress_bar(local_batches, description, n_batches)
    for rows, images in local_batches:
        probabilities[rows] = torch.softmax(model(images).double(), dim=1).cpu()
    model.train(was_training)
    return batches.context.all_reduce(probabilities).numpy()  # exact: each row is zero on all ranks but one


def evaluate_model(
    model: nn.Module, batches: BatchLoader, class_names: tuple[str, ...], description: str = ""
) -> Evaluation:
    """Evaluate a model that maps uint8 (n, c, h, w) to logits (n, classes).

    `description` labels a progress bar; there is none without it.

    Raises:
        DivergedError: the model returns NaN or infinity.
    """
    probabilities = predict_probabilities(model, batches, len(class_names), description)
    labels = batches.labels.cpu().numpy()
    if not np.isfinite(probabilities).all():
        message = "The network returns NaN, because its training diverged: lower `optimizer.lr` and train again."
        raise DivergedError(message)
    return Evaluation(compute_metrics(probabilities, labels, class_names), probabilities, labels)


def check_compatible(folder: RunFolder, info: RunInfo, class_names: tuple[str, ...], dataset: Dataset) -> None:
    """Raise IncompatibleError when a run's model can't be evaluated on `dataset`: other channels, size or classes."""
    title, spec = dataset.provenance.title, info.input_spec
    if (dataset.channels, dataset.n_classes) != (spec["channels"], spec["n_classes"]):
        raise IncompatibleError(
            f"`data` is {title}, of {dataset.channels} channels and {dataset.n_classes} classes, but {folder.root} was trained "
            f"with {spec['channels']} channels and {spec['n_classes']} classes: choose matching data."
        )
    height, width = dataset.image_size
    if (height, width) != (spec["height"], spec["width"]):
        raise IncompatibleError(
            f"`data` is {title}, of {height}x{width} pixels, but {folder.root} was trained on "
            f"{spec['height']}x{spec['width']} pixels: resize the images first."
        )
    if dataset.class_names != class_names and set(dataset.class_names) == set(class_names):
        raise IncompatibleError(
            f"`data` is {title}, which has the classes of {folder.root} in another order "
            f"({', '.join(dataset.class_names)}): number them as the run does ({', '.join(class_names)})."
        )
