"""Soft targets that were tried against label noise: a cross-validated network disagrees with about one label in six.

Each function makes (n, classes) targets for the train split, from networks that it first trains with the same recipe, or from
finished runs; that cost is not counted against the idea.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.data.split import Split
from nephros.evaluation.scoring import predict_probabilities
from nephros.exporters.teachers import open_teacher
from nephros.models.classifier import Classifier
from nephros.recipe import Recipe
from nephros.training.distillation import check_teachers, teacher_probabilities
from nephros.training.progress import NullCallback
from nephros.training.trainer import Trainer

InitModel = Callable[[int], Classifier]
"""Returns the idea's network with initial weights drawn from a seed."""
MakeSoftTargets = Callable[[Recipe, Dataset, InitModel], Tensor]
_CPU = torch.device("cpu")
_OUT_OF_FOLD_CACHE: dict[tuple[Recipe, int], Tensor] = {}
"""Out-of-fold probabilities by recipe (whose seed also draws the images) and number of folds."""
RUNS = Path("runs", "nephros")
"""Folder of the runs of `nephros reproduce nephros`."""
_TEACHER_CACHE: dict[tuple[tuple[str, ...], str], Tensor] = {}
"""Mean probabilities of finished runs, by their names and the data's SHA-256."""


def out_of_fold(recipe: Recipe, dataset: Dataset, init_model: InitModel, folds: int = 4) -> Tensor:
    """Return probabilities from networks that were not trained on the image in question; computed once per process."""
    key = (dataclasses.replace(recipe, distillation_weight=0.0), folds)
    if key not in _OUT_OF_FOLD_CACHE:
        _OUT_OF_FOLD_CACHE[key] = _cross_validated_probabilities(recipe, dataset, init_model, folds)
    return _OUT_OF_FOLD_CACHE[key]


def _cross_validated_probabilities(recipe: Recipe, dataset: Dataset, init_model: InitModel, folds: int) -> Tensor:
    n = len(dataset.train)
    fold = np.random.default_rng(recipe.seed).permutation(n) % folds
    probabilities = np.zeros((n, dataset.n_classes))
    for k in range(folds):
        probabilities[fold == k] = _train_and_predict(
            recipe, dataset, init_model(recipe.seed + 1000 + k), fold != k, fold == k
        )
    return torch.from_numpy(probabilities).float()


def born_again(recipe: Recipe, dataset: Dataset, init_model: InitModel) -> Tensor:
    """Return the probabilities of a network trained on the same images (Furlanello et al. 2018)."""
    all_images = np.ones(len(dataset.train), dtype=np.bool_)
    return torch.from_numpy(
        _train_and_predict(recipe, dataset, init_model(recipe.seed + 1000), all_images, all_images)
    ).float()


def relabeled(recipe: Recipe, dataset: Dataset, init_model: InitModel) -> Tensor:
    """Return the labels, replaced by out-of-fold probabilities where confident learning (Northcutt et al. 2021) suspects them.

    A label is suspect where another class has the highest of the probabilities that exceed their class's mean over the images
    with its label.
    """
    p = out_of_fold(recipe, dataset, init_model)
    labels = torch.from_numpy(np.array(dataset.train.labels))
    class_thresholds = torch.stack([p[labels == c, c].mean() for c in range(dataset.n_classes)])
    confident = torch.where(p >= class_thresholds, p, -1.0)
    suspect = (confident.max(1).values > 0) & (confident.argmax(1) != labels)
    one_hot = F.one_hot(labels, dataset.n_classes).float()
    return torch.where(suspect[:, None], p, one_hot)


def distilled_from(*names: str) -> MakeSoftTargets:
    """Return a function that makes soft targets from finished runs such as nephros-0, for all images, once per process."""

    def make_soft_targets(recipe: Recipe, dataset: Dataset, _init_model: InitModel) -> Tensor:
        teachers = [open_teacher(RUNS / name) for name in names]
        check_teachers(recipe, teachers, dataset)
        key = (names, dataset.provenance.sha256)
        if key not in _TEACHER_CACHE:
            _TEACHER_CACHE[key] = torch.from_numpy(
                teacher_probabilities(teachers, BatchLoader(dataset.train, _CPU), dataset.n_classes, recipe)
            )
        return _TEACHER_CACHE[key]

    return make_soft_targets


def _train_and_predict(
    recipe: Recipe, dataset: Dataset, model: Classifier, train_mask: NDArray[np.bool_], predict_mask: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Train on some images of the train split and return the (m, classes) probabilities of others."""
    train = dataset.train
    supervised = dataclasses.replace(recipe, distillation_weight=0.0)
    train_split = Split(train.images[train_mask], train.labels[train_mask])
    small_val = BatchLoader(Split(dataset.val.images[:512], dataset.val.labels[:512]), _CPU)
    trainer = Trainer(supervised, model, BatchLoader(train_split, _CPU), small_val, dataset.class_names)
    trainer.run(None, NullCallback())
    predict_batches = BatchLoader(Split(train.images[predict_mask], train.labels[predict_mask]), _CPU)
    return predict_probabilities(trainer.model, predict_batches, dataset.n_classes)
