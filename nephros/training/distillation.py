"""Knowledge distillation: soft targets from the mean probabilities of trained models, the teachers (Hinton et al. 2015)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.device import autocast_dtype
from nephros.errors import FileError, IncompatibleError, InvalidArgument, NephrosError
from nephros.evaluation.scoring import check_compatible, check_probabilities, predict_probabilities
from nephros.files import atomic_write
from nephros.models.classifier import Classifier
from nephros.models.tta import TTAClassifier
from nephros.reading import file_errors, read_arrays
from nephros.recipe import Recipe
from nephros.runs import InputSpecRecord, RunFolder, RunInfo, TeacherRecord

SOFT_TARGETS_FILE = "soft_targets.npz"
"""File of a run folder with (n, classes) float32 probabilities, in the order of the train split."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teacher:
    """A trained classifier that another learns from, with what it was trained on; `nephros.exporters.teachers` opens them."""

    classifier: Classifier
    """On the CPU and in evaluation mode."""
    input_spec: InputSpecRecord
    class_names: tuple[str, ...]
    data_sha256: str | None
    data_detail: str
    """Split and subset of the data that it was trained on."""
    record: TeacherRecord


TeacherOpener = Callable[[str], Teacher]


def check_teachers(recipe: Recipe, teachers: Sequence[Teacher], dataset: Dataset) -> None:
    """Raise an error unless recipe and `teachers` agree, and every teacher was trained on the same data."""
    names = ", ".join(teacher.record["run"] for teacher in teachers)
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
            hint="Or name finished runs, or exported models, as `teachers`.",
        )
    digests = [teacher.record["weights_sha256"] for teacher in teachers]
    for teacher, digest in zip(teachers, digests, strict=True):
        if digests.count(digest) > 1:
            expected = f"a list without repetitions, but {teacher.record['run']} is there twice"
            raise InvalidArgument("teachers", names, expected)
        _check_teacher(teacher, dataset)


def _check_teacher(teacher: Teacher, dataset: Dataset) -> None:
    name = teacher.record["run"]
    check_compatible(name, teacher.input_spec, teacher.class_names, dataset)
    provenance = dataset.provenance
    if (teacher.data_sha256, teacher.data_detail) != (provenance.sha256, provenance.detail):
        raise IncompatibleError(
            f"The teacher {name} was trained on other data or another split, so it may have seen validation or test images of "
            "this one: choose models of the same data as `teachers`."
        )


def teacher_probabilities(
    teachers: Sequence[Teacher], batches: BatchLoader, n_classes: int, recipe: Recipe
) -> NDArray[np.float32]:
    """Return the mean (n, classes) probabilities of the teachers for the train split.

    They answer as the student that `recipe` trains will: for as many views of an image. They compute in the precision in which
    it is trained.
    """
    amp_dtype = autocast_dtype(recipe.amp, batches.device)
    total = np.zeros((len(batches), n_classes))
    for teacher in teachers:
        logger.info("computing soft targets from %s", teacher.record["run"])
        tta_model = TTAClassifier(teacher.classifier.to(batches.device), recipe.tta_views)
        total += predict_probabilities(tta_model, batches, n_classes, "soft targets", amp_dtype)
    return (total / len(teachers)).astype(np.float32)


def cached_soft_targets(
    folder: RunFolder, info: RunInfo, recipe: Recipe, batches: BatchLoader, n_classes: int, open_teacher: TeacherOpener
) -> Tensor:
    """Return the run's soft targets (n, classes) float32, computed from its teachers once and then kept in its folder.

    `batches` is the train split; ranks share the work. Raises NephrosError when a teacher was removed or changed before its
    probabilities were computed, and FileError when the kept file is damaged.
    """
    context = batches.context
    if not context.broadcast(folder.file(SOFT_TARGETS_FILE).exists()):
        teachers = _unchanged_teachers(folder, info, open_teacher)
        probabilities = teacher_probabilities(teachers, batches, n_classes, recipe)
        if context.is_main_process:
            with atomic_write(folder.file(SOFT_TARGETS_FILE)) as file:
                np.savez_compressed(file, probabilities=probabilities)
        context.broadcast(True)  # the other ranks wait until the first has written the file
    return read_soft_targets(folder, len(batches), n_classes)


def _unchanged_teachers(folder: RunFolder, info: RunInfo, open_teacher: TeacherOpener) -> list[Teacher]:
    """Return a run's teachers; FileError unless they are as they were when the run began."""
    with contextlib.suppress(NephrosError, OSError):
        teachers = [open_teacher(teacher["run"]) for teacher in info.teachers]
        if [teacher.record for teacher in teachers] == info.teachers:
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
