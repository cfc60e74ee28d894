"""Teachers: finished runs whose mean probabilities on the train split a new network learns from (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nephros.data.batches import Batches
from nephros.data.dataset import Dataset
from nephros.errors import UserError
from nephros.evaluation.evaluate import predict
from nephros.files import atomic, digest
from nephros.jobs.evaluate import check_fit
from nephros.models.saved import load_model
from nephros.models.views import Averaged
from nephros.recipe import Recipe
from nephros.runs import RunFolder

TARGETS = "targets.npz"
"""Of a run folder: (n, classes) float32 probabilities, in the order of the train split."""


def check_teachers(recipe: Recipe, teachers: Sequence[str | Path], dataset: Dataset) -> None:
    """Raise UserError unless the recipe wants teachers, and these can be asked about the data."""
    if teachers and not recipe.teacher_share:
        raise UserError("--teachers is given, but the recipe learns from labels alone: add --teacher_share 0.9, say.")
    if recipe.teacher_share and not teachers:
        raise UserError(
            f"--teacher_share is {recipe.teacher_share}, but there are no teachers: name finished runs with --teachers."
        )
    for teacher in teachers:
        folder = RunFolder.open(teacher)
        info = folder.info()
        if info.status != "complete":
            raise UserError(f"The teacher {teacher} is not over: resume it with `nephros train --resume {teacher}`.")
        check_fit(folder, info, tuple(info.class_names), dataset)
        if info.data["sha256"] != dataset.provenance.sha256 or info.data["detail"] != dataset.provenance.detail:
            raise UserError(
                f"The teacher {teacher} learnt from other data or another split, so that it may have seen this one's "
                "validation or test images: name runs on the same data."
            )


def described(teachers: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Return what run.json says of the teachers."""
    return [
        {
            "run": str(folder.root),
            "recipe": info.recipe,
            "recipe_hash": info.recipe_hash,
            "weights_sha256": digest(folder.file("weights.safetensors")),
        }
        for folder, info in ((folder, folder.info()) for folder in map(RunFolder.open, teachers))
    ]


def ask(
    teachers: Sequence[str | Path], dataset: Dataset, processor: torch.device, say: Callable[[str], None]
) -> NDArray[np.float32]:
    """Return the mean of the teachers' probabilities (n, classes) for the train split, over the views that each has."""
    batches = Batches(dataset.train, processor)
    total = np.zeros((len(dataset.train), dataset.classes))
    for teacher in teachers:
        say(f"asking the teacher {teacher}")
        run = RunFolder.open(teacher)
        model, _ = load_model(run.file("weights.safetensors"))
        total += predict(Averaged(model.to(processor), run.info().views), batches, dataset.classes)
    return (total / len(teachers)).astype(np.float32)


def write_targets(
    folder: RunFolder,
    teachers: Sequence[str | Path],
    dataset: Dataset,
    processor: torch.device,
    say: Callable[[str], None],
) -> None:
    """Ask the teachers about every training image and put the mean of their probabilities into the run folder."""
    probabilities = ask(teachers, dataset, processor, say)
    with atomic(folder.file(TARGETS)) as file:
        np.savez_compressed(file, probabilities=probabilities)


def read_targets(folder: RunFolder, images: int, classes: int) -> Tensor:
    """Return what `write_targets` wrote, (n, classes) float32; UserError when it is missing or damaged."""
    file = folder.file(TARGETS)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            probabilities = arrays["probabilities"]
        if probabilities.shape != (images, classes) or not np.isfinite(probabilities).all():
            raise ValueError
    except Exception:
        raise UserError(f"{file} is missing or damaged: train again with a new --out.") from None
    return torch.from_numpy(probabilities)
