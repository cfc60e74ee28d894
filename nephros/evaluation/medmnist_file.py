"""Predictions in the CSV format of MedMNIST's Evaluator, so that others can score them with its package."""

from __future__ import annotations

import re
from pathlib import Path

from nephros.data.dataset import Dataset
from nephros.errors import IncompatibleError, InvalidArgument
from nephros.evaluation.scoring import Evaluation
from nephros.files import atomic_write, check_writable


def check_medmnist_data(dataset: Dataset, split: str, *, is_redrawn: bool) -> None:
    """Raise IncompatibleError unless a split is that of a MedMNIST file, whose rows the Evaluator compares in file order.

    `is_redrawn` says that train and val are a draw of this project, such as a subset.
    """
    title = dataset.provenance.title
    if dataset.provenance.key is None:
        raise IncompatibleError(
            f"`medmnist` is for runs on MedMNIST's data sets, and {title} is none of them: leave it out."
        )
    if is_redrawn and split != "test":
        raise IncompatibleError(
            f"`medmnist` is for the splits of MedMNIST's file, and {split} of {title} was drawn anew: evaluate the split test."
        )


def check_medmnist_folder(folder: str | Path) -> Path:
    """Return the folder for the file; InvalidArgument where something else has its name."""
    path = Path(folder).expanduser()
    if path.exists() and not path.is_dir():
        raise InvalidArgument("medmnist", path, "a folder")
    check_writable(path, "medmnist")
    return path


def write_medmnist_csv(folder: Path, run_name: str, evaluation: Evaluation, dataset: Dataset, split: str) -> Path:
    """Write a row per image, in file order: its index and the probability of each class. Return the file's path.

    The name is the Evaluator's (medmnist/evaluator.py of version 3): ``tissuemnist_test_[AUC]0.930_[ACC]0.690@RUN.csv``. Full
    stops and @ in the run's name, where the Evaluator would cut it, become hyphens.
    """
    metrics, size = evaluation.metrics, dataset.image_size[0]
    size_flag = "" if size == 28 else f"_{size}"
    auc = float("nan") if metrics.auc is None else metrics.auc
    run = re.sub(r"[.@]+", "-", run_name)
    name = f"{dataset.provenance.key}{size_flag}_{split}_[AUC]{auc:.3f}_[ACC]{metrics.accuracy:.3f}@{run}.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / name, "w") as file:
        for index, row in enumerate(evaluation.probabilities.tolist()):
            file.write(",".join([str(index), *map(repr, row)]) + "\n")
    return folder / name
