"""Knowledge distillation: soft targets from the mean probabilities of finished runs, the teachers (Hinton et al. 2015)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.errors import FileError, IncompatibleError, IncompleteError, InvalidArgument, NephrosError
from nephros.evaluation.scoring import check_compatible, check_probabilities, load_run_model, predict_probabilities
from nephros.files import atomic_write, file_digest
from nephros.models.tta import TTAClassifier
from nephros.reading import file_errors, read_arrays
from nephros.recipe import Recipe
from nephros.runs import RunFolder, RunInfo, TeacherRecord

SOFT_TARGETS_FILE = "soft_targets.npz"
"""File of a run folder with (n, classes) float32 probabilities, in the order of the train split."""

logger = logging.getLogger(__name__)


def check_teachers(recipe: Recipe, teachers: Sequence[str | Path], dataset: Dataset) -> None:
    """Raise an error unless recipe and `teachers` agree, and every teacher is a finished run on the same data."""
    names = ", ".join(map(str, teachers))
    if teachers and recipe.is_classical:
        raise InvalidArgument("teachers", names, f"left out: {recipe.model.network} learns from labels alone")
    if teachers and not recipe.distillation_weight:
        raise InvalidArgument(
            "teachers",
            names,
            "left out for a recipe that learns from labels alone",
            hint="Or set `distillation_weight`, such as 0.9.",
        )
    if recipe.distillation_weight and not teachers:
        raise InvalidArgument(
            "distillation_weight",
            recipe.distillation_weight,
            "0 without teachers",
            hint="Or name finished runs as `teachers`.",
        )
    run_dirs = [Path(teacher).expanduser().resolve() for teacher in teachers]
    for teacher, run_dir in zip(teachers, run_dirs, strict=True):
        if run_dirs.count(run_dir) > 1:
            raise InvalidArgument("teachers", names, f"a list without repetitions, but {teacher} is there twice")
        _check_teacher(teacher, dataset)


def _check_teacher(teacher: str | Path, dataset: Dataset) -> None:
    folder = RunFolder.open(teacher)
    info = folder.info()
    if info.status == "diverged":
        raise InvalidArgument("teachers", teacher, "a list of complete runs, but this one diverged")
    if info.status != "complete":
        raise IncompleteError(
            f"The teacher {teacher} is not complete: resume it first with `nephros.resume({str(teacher)!r})`."
        )
    load_run_model(folder)
    check_compatible(folder, info, tuple(info.class_names), dataset)
    if info.data["sha256"] != dataset.provenance.sha256 or info.data["detail"] != dataset.provenance.detail:
        raise IncompatibleError(
            f"The teacher {teacher} was trained on other data or another split, so it may have seen validation or test images of "
            "this one: choose runs on the same data as `teachers`."
        )


def teacher_records(teachers: Sequence[str | Path]) -> list[TeacherRecord]:
    """Return the description of the teachers that run.json keeps: folder, recipe, and digests of recipe and weights."""
    return [
        {
            "run": str(folder.root.absolute()),
            "recipe": info.recipe,
            "recipe_hash": info.recipe_hash,
            "weights_sha256": file_digest(folder.file("weights.safetensors")),
        }
        for folder, info in ((folder, folder.info()) for folder in map(RunFolder.open, teachers))
    ]


def teacher_probabilities(teachers: Sequence[str | Path], batches: BatchLoader, n_classes: int) -> NDArray[np.float32]:
    """Return the mean (n, classes) probabilities of the teachers for the train split, each with its own TTA views."""
    total = np.zeros((len(batches), n_classes))
    for teacher in teachers:
        logger.info("computing soft targets from %s", teacher)
        run = RunFolder.open(teacher)
        model = load_run_model(run)
        tta_model = TTAClassifier(model.to(batches.device), run.info().tta_views)
        total += predict_probabilities(tta_model, batches, n_classes, "soft targets")
    return (total / len(teachers)).astype(np.float32)


def cached_soft_targets(folder: RunFolder, info: RunInfo, batches: BatchLoader, n_classes: int) -> Tensor:
    """Return the run's soft targets (n, classes) float32, computed from its teachers once and then kept in its folder.

    `batches` is the train split; ranks share the work. Raises NephrosError when a teacher was removed or changed before its
    probabilities were computed, and FileError when the kept file is damaged.
    """
    context = batches.context
    if not context.broadcast(folder.file(SOFT_TARGETS_FILE).exists()):
        probabilities = teacher_probabilities(_unchanged_teachers(folder, info), batches, n_classes)
        if context.is_main_process:
            with atomic_write(folder.file(SOFT_TARGETS_FILE)) as file:
                np.savez_compressed(file, probabilities=probabilities)
        context.broadcast(True)  # the other ranks wait until the first has written the file
    return read_soft_targets(folder, len(batches), n_classes)


def _unchanged_teachers(folder: RunFolder, info: RunInfo) -> list[str]:
    """Return the folders of a run's teachers; FileError unless they are as they were when the run began."""
    teachers = [teacher["run"] for teacher in info.teachers]
    with contextlib.suppress(NephrosError, OSError):
        if teacher_records(teachers) == info.teachers:
            return teachers
    raise FileError(
        folder.root,
        f"A teacher of {folder.root} was removed or changed before its soft targets were computed: restore it, or train again "
        "with a new `out`.",
    )


def read_soft_targets(folder: RunFolder, n_images: int, n_classes: int) -> Tensor:
    """Return the (n, classes) float32 soft targets in a run folder; FileError when the file is missing or damaged."""
    path = folder.file(SOFT_TARGETS_FILE)
    with file_errors(path, "train again with a new `out`"):
        probabilities = read_arrays(path, {"probabilities": (n_images, n_classes)})["probabilities"]
        check_probabilities(probabilities)
        return torch.from_numpy(probabilities.astype(np.float32))
