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

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.errors import NephrosError
from nephros.evaluation.compatibility import check_compatible
from nephros.evaluation.scoring import predict_probabilities
from nephros.files import atomic_write, file_digest
from nephros.models.serialization import load_model
from nephros.models.tta import TTAClassifier
from nephros.recipe import Recipe
from nephros.runs import RunFolder, RunInfo

SOFT_TARGETS_FILE = "soft_targets.npz"
"""Of a run folder: (n, classes) float32 probabilities, in the order of the train split."""


def check_teachers(recipe: Recipe, teachers: Sequence[str | Path], dataset: Dataset) -> None:
    """Raise UserError unless the recipe wants teachers, and these can be asked about the data."""
    if teachers and recipe.is_classical:
        raise NephrosError(f"--teachers is given, but {recipe.model.network} learns from labels alone: leave it out.")
    if teachers and not recipe.distillation_weight:
        raise NephrosError(
            "--teachers is given, but the recipe learns from labels alone: add --distillation_weight 0.9, say."
        )
    if recipe.distillation_weight and not teachers:
        raise NephrosError(
            f"--distillation_weight is {recipe.distillation_weight}, but there are no teachers: name runs with --teachers."
        )
    run_dirs = [Path(teacher).expanduser().resolve() for teacher in teachers]
    for teacher, run_dir in zip(teachers, run_dirs, strict=True):
        folder = RunFolder.open(teacher)
        info = folder.info()
        if run_dirs.count(run_dir) > 1:
            raise NephrosError(f"--teachers names {teacher} twice: name each run once.")
        if info.status == "diverged":
            raise NephrosError(f"The teacher {teacher} diverged and has nothing to teach: name another run.")
        if info.status != "complete":
            raise NephrosError(f"The teacher {teacher} is not over: resume it with `nephros train --resume {teacher}`.")
        load_model(folder.file("weights.safetensors"))
        check_compatible(folder, info, tuple(info.class_names), dataset)
        if info.data["sha256"] != dataset.provenance.sha256 or info.data["detail"] != dataset.provenance.detail:
            raise NephrosError(
                f"The teacher {teacher} learnt from other data or another split, so that it may have seen this one's "
                "validation or test images: name runs on the same data."
            )


def teacher_records(teachers: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Return what run.json says of the teachers."""
    return [
        {
            "run": str(folder.root.absolute()),
            "recipe": info.recipe,
            "recipe_hash": info.recipe_hash,
            "weights_sha256": file_digest(folder.file("weights.safetensors")),
        }
        for folder, info in ((folder, folder.info()) for folder in map(RunFolder.open, teachers))
    ]


def teacher_probabilities(
    teachers: Sequence[str | Path], batches: BatchLoader, n_classes: int, say: Callable[[str], None]
) -> NDArray[np.float32]:
    """Return the mean of the teachers' probabilities (n, classes) for `batches`, the train split, in each one's views."""
    total = np.zeros((len(batches), n_classes))
    for teacher in teachers:
        say(f"asking the teacher {teacher}")
        run = RunFolder.open(teacher)
        model, _ = load_model(run.file("weights.safetensors"))
        tta_model = TTAClassifier(model.to(batches.device), run.info().tta_views)
        total += predict_probabilities(tta_model, batches, n_classes, "asking")
    return (total / len(teachers)).astype(np.float32)


def cached_soft_targets(
    folder: RunFolder, info: RunInfo, batches: BatchLoader, n_classes: int, say: Callable[[str], None]
) -> Tensor:
    """Return what the run learns from, (n, classes) float32; its teachers are asked about `batches`, the train split, once.

    Their mean probabilities are kept in the run folder. Ranks share the asking. UserError when a teacher has gone or
    changed before it was asked, or what was kept is damaged.
    """
    context = batches.context
    if not context.broadcast(folder.file(SOFT_TARGETS_FILE).exists()):
        probabilities = teacher_probabilities(_unchanged_teachers(folder, info), batches, n_classes, say)
        if context.is_main_process:
            with atomic_write(folder.file(SOFT_TARGETS_FILE)) as file:
                np.savez_compressed(file, probabilities=probabilities)
        context.broadcast(True)  # which has written it by now
    return read_soft_targets(folder, len(batches), n_classes)


def _unchanged_teachers(folder: RunFolder, info: RunInfo) -> list[str]:
    """Return where a run's teachers lie; UserError unless they are what they were when it began."""
    teachers = [teacher["run"] for teacher in info.teachers]
    with contextlib.suppress(NephrosError, OSError):
        if teacher_records(teachers) == info.teachers:
            return teachers
    raise NephrosError(
        f"A teacher of {folder.root} has gone or changed before it was asked: put it back, or train again with a new --out."
    )


def read_soft_targets(folder: RunFolder, n_images: int, n_classes: int) -> Tensor:
    """Return what `cached_soft_targets` kept, (n, classes) float32; UserError when it is missing or damaged."""
    file = folder.file(SOFT_TARGETS_FILE)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            probabilities = arrays["probabilities"]
        if probabilities.shape != (n_images, n_classes) or not np.isfinite(probabilities).all():
            raise ValueError
    except Exception:
        raise NephrosError(f"{file} is missing or damaged: train again with a new --out.") from None
    return torch.from_numpy(probabilities)
