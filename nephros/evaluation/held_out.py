"""Predictions for training images by models that did not see them: the calibration data of a fine-tuned run.

Twenty validation images can't calibrate. Cross-conformal prediction (Vovk, Annals of Mathematics and Artificial Intelligence
74, 2015) pools the scores of all folds, so that every labeled image counts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nephros.errors import FileError
from nephros.evaluation.metrics import Floats, Labels
from nephros.files import atomic_write
from nephros.runs import RunFolder

HELD_OUT_FILE = "cross_validation.npz"
"""File of a run folder with probabilities (n, classes) float64, labels (n,) int64 and, of folds by group, groups (n,) text,
in the order of the train split."""

Predictions = tuple[Floats, Labels]


class HeldOutPredictions(NamedTuple):
    """Predictions of a fine-tuned run's method in cross-validation."""

    probabilities: Floats
    """(n, classes)."""
    labels: Labels
    """(n,)."""
    groups: NDArray[np.str_] | None = None
    """(n,), which the folds kept together; None for folds by image, and where an earlier version did not store them."""


def write_held_out(folder: RunFolder, held_out: HeldOutPredictions) -> None:
    """Store the predictions of a fine-tuned run's method in cross-validation."""
    arrays = {name: values for name, values in held_out._asdict().items() if values is not None}
    with atomic_write(folder.file(HELD_OUT_FILE)) as file:
        np.savez_compressed(file, **arrays)


def read_held_out(folder: RunFolder) -> HeldOutPredictions | None:
    """Return what `write_held_out` stored; None for a run that was not fine-tuned; FileError when the file is damaged."""
    path = folder.file(HELD_OUT_FILE)
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            probabilities, labels = arrays["probabilities"], arrays["labels"]
            groups = arrays["groups"] if "groups" in arrays.files else None
        n_classes = len(folder.info().class_names)
        if probabilities.shape != (len(labels), n_classes) or not np.isfinite(probabilities).all():
            raise ValueError
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= n_classes:
            raise ValueError
        if groups is not None and (groups.dtype.kind != "U" or groups.shape != labels.shape or len(set(groups)) < 2):
            raise ValueError
    except Exception:
        raise FileError(path, f"{path} is damaged: fine-tune again with a new `out`.") from None
    return HeldOutPredictions(probabilities, labels, groups)


def pool(first: Predictions, second: HeldOutPredictions | None) -> Predictions:
    """Return two sets of probabilities and labels as one."""
    if second is None:
        return first
    return np.concatenate([first[0], second.probabilities]), np.concatenate([first[1], second.labels])
