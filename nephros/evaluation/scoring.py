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

from nephros.console import with_bar
from nephros.data.batches import Batches
from nephros.errors import Diverged, UserError
from nephros.evaluation.metrics import summarise
from nephros.files import atomic, write_json
from nephros.runs import RunFolder

EVALUATION_PIXELS = 512 * 28 * 28
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
            with atomic(predictions_file) as file:
                np.savez_compressed(file, probabilities=self.probabilities, labels=self.labels)
        write_json(metrics_file, self.metrics)

    @classmethod
    def of_run(cls, folder: RunFolder, split: str) -> Evaluation:
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
            raise UserError(f"{error.filename} is missing: run `nephros evaluate` on the run first.") from None
        except Exception:
            raise UserError(
                f"{metrics_file.parent} holds damaged results: run `nephros evaluate` on the run again."
            ) from None


def together(found: Sequence[Evaluation], class_names: tuple[str, ...]) -> Evaluation:
    """Return what the mean of several models' probabilities on the same images comes to; the rest is the first one's."""
    first = found[0]
    probabilities = np.mean([one.probabilities for one in found], axis=0)
    metrics = {**first.metrics, **summarise(probabilities, first.labels, class_names)}
    return Evaluation(metrics, probabilities, first.labels)


@torch.no_grad()
def predict(model: nn.Module, batches: Batches, classes: int, doing: str = "") -> NDArray[np.float64]:
    """Return (n, classes) float64 probabilities of a split in file order, in evaluation mode and without autocast.

    Of several ranks each predicts its share, and all return the whole. `doing` is a word for a progress bar.
    """
    batch_size = max(1, EVALUATION_PIXELS // batches.pixels)
    was_training = model.training
    model.eval()
    probabilities = torch.zeros(len(batches), classes, dtype=torch.float64)
    share = batches.read_share(batch_size)
    if doing and batches.ranks.first:
        share = with_bar(share, doing, math.ceil(len(batches) / batch_size / batches.ranks.world))
    for rows, images in share:
        probabilities[rows] = torch.softmax(model(images).double(), dim=1).cpu()
    model.train(was_training)
    return batches.ranks.sum(probabilities).numpy()  # all but one rank's are zeros, so that the sum is exact


def evaluate(model: nn.Module, batches: Batches, class_names: tuple[str, ...], doing: str = "") -> Evaluation:
    """Return the Evaluation of a model that maps uint8 (n, c, h, w) to logits; UserError when it answers NaN.

    `doing` is a word for a progress bar, for what takes long.
    """
    probabilities = predict(model, batches, len(class_names), doing)
    labels = batches.labels.cpu().numpy()
    if not np.isfinite(probabilities).all():
        raise Diverged("The network answers NaN: its training diverged; lower --optimizer.lr and train again.")
    return Evaluation(summarise(probabilities, labels, class_names), probabilities, labels)
