"""Teachers: finished runs whose mean probabilities on the train split a new network learns from (Hinton et al. 2015)."""

from __future__ import annotations

import contextlib
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
from nephros.evaluation.compatibility import check_fit
from nephros.evaluation.scoring import predict
from nephros.files import atomic, digest
from nephros.models.serialization import load_model
from nephros.models.tta import Averaged
from nephros.recipe import Recipe
from nephros.runs import RunFolder, RunInfo

TARGETS = "targets.npz"
"""Of a run folder: (n, classes) float32 probabilities, in the order of the train split."""


def check_teachers(recipe: Recipe, teachers: Sequence[str | Path], dataset: Dataset) -> None:
    """Raise UserError unless the recipe wants teachers, and these can be asked about the data."""
    if teachers and recipe.classical:
        raise UserError(f"--teachers is given, but {recipe.model.network} learns from labels alone: leave it out.")
    if teachers and not recipe.teacher_share:
        raise UserError("--teachers is given, but the recipe learns from labels alone: add --teacher_share 0.9, say.")
    if recipe.teacher_share and not teachers:
        raise UserError(
            f"--teacher_share is {recipe.teacher_share}, but there are no teachers: name finished runs with --teachers."
        )
    roots = [Path(teacher).expanduser().resolve() for teacher in teachers]
    for teacher, root in zip(teachers, roots, strict=True):
        folder = RunFolder.open(teacher)
        info = folder.info()
        if roots.count(root) > 1:
            raise UserError(f"--teachers names {teacher} twice: name each run once.")
        if info.status == "diverged":
            raise UserError(f"The teacher {teacher} diverged and has nothing to teach: name another run.")
        if info.status != "complete":
            raise UserError(f"The teacher {teacher} is not over: resume it with `nephros train --resume {teacher}`.")
        load_model(folder.file("weights.safetensors"))
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
            "run": str(folder.root.absolute()),
            "recipe": info.recipe,
            "recipe_hash": info.recipe_hash,
            "weights_sha256": digest(folder.file("weights.safetensors")),
        }
        for folder, info in ((folder, folder.info()) for folder in map(RunFolder.open, teachers))
    ]


def ask(
    teachers: Sequence[str | Path], batches: Batches, classes: int, say: Callable[[str], None]
) -> NDArray[np.float32]:
    """Return the mean of the teachers' probabilities (n, classes) for `batches`, the train split, in each one's views."""
    total = np.zeros((len(batches), classes))
    for teacher in teachers:
        say(f"asking the teacher {teacher}")
        run = RunFolder.open(teacher)
        model, _ = load_model(run.file("weights.safetensors"))
        averaged = Averaged(model.to(batches.device), run.info().views)
        total += predict(averaged, batches, classes, "asking")
    return (total / len(teachers)).astype(np.float32)


def targets_of(folder: RunFolder, info: RunInfo, batches: Batches, classes: int, say: Callable[[str], None]) -> Tensor:
    """Return what the run learns from, (n, classes) float32; its teachers are asked about `batches`, the train split, once.

    Their mean probabilities are kept in the run folder. Ranks share the asking. UserError when a teacher has gone or
    changed before it was asked, or what was kept is damaged.
    """
    ranks = batches.ranks
    if not ranks.from_first(folder.file(TARGETS).exists()):
        probabilities = ask(_unchanged(folder, info), batches, classes, say)
        if ranks.first:
            with atomic(folder.file(TARGETS)) as file:
                np.savez_compressed(file, probabilities=probabilities)
        ranks.from_first(True)  # which has written it by now
    return read_targets(folder, len(batches), classes)


def _unchanged(folder: RunFolder, info: RunInfo) -> list[str]:
    """Return where a run's teachers lie; UserError unless they are what they were when it began."""
    teachers = [one["run"] for one in info.teachers]
    with contextlib.suppress(UserError, OSError):
        if described(teachers) == info.teachers:
            return teachers
    raise UserError(
        f"A teacher of {folder.root} has gone or changed before it was asked: put it back, or train again with a new --out."
    )


def read_targets(folder: RunFolder, images: int, classes: int) -> Tensor:
    """Return what `targets_of` kept, (n, classes) float32; UserError when it is missing or damaged."""
    file = folder.file(TARGETS)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            probabilities = arrays["probabilities"]
        if probabilities.shape != (images, classes) or not np.isfinite(probabilities).all():
            raise ValueError
    except Exception:
        raise UserError(f"{file} is missing or damaged: train again with a new --out.") from None
    return torch.from_numpy(probabilities)
