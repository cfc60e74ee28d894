"""Predictions for training images by models that did not see them: the calibration data of a fine-tuned run.

Twenty validation images can't calibrate. Cross-conformal prediction (Vovk, Annals of Mathematics and Artificial Intelligence
74, 2015) pools the scores of all folds, so that every labeled image counts.
"""

from __future__ import annotations

import numpy as np

from nephros.errors import FileError
from nephros.evaluation.metrics import Floats, Labels
from nephros.files import atomic_write
from nephros.runs import RunFolder

HELD_OUT_FILE = "cross_validation.npz"
"""File of a run folder with probabilities (n, classes) float64 and labels (n,) int64, in the order of the train split."""

Predictions = tuple[Floats, Labels]


def write_held_out(folder: RunFolder, probabilities: Floats, labels: Labels) -> None:
    """Store the predictions of a fine-tuned run's method in cross-validation."""
    with atomic_write(folder.file(HELD_OUT_FILE)) as file:
        np.savez_compressed(file, probabilities=probabilities, labels=labels)


def read_held_out(folder: RunFolder) -> Predictions | None:
    """Return what `write_held_out` stored; None for a run that was not fine-tuned; FileError when the file is damaged."""
    path = folder.file(HELD_OUT_FILE)
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            probabilities, labels = arrays["probabilities"], arrays["labels"]
        n_classes = len(folder.info().class_names)
        if probabilities.shape != (len(labels), n_classes) or not np.isfinite(probabilities).all():
            raise ValueError
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= n_classes:
            raise ValueError
    except Exception:
        raise FileError(path, f"{path} is damaged: fine-tune again with a new `out`.") from None
    return probabilities, labels


def pool(first: Predictions, second: Predictions | None) -> Predictions:
    """Return two sets of probabilities and labels as one."""
    if second is None:
        return first
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])
