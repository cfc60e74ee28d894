"""Doubting the labels, about one in six of which a cross-validated network would give otherwise: targets that were tried.

Each function makes (n, classes) targets for the train split, by training networks of the same recipe on it first, or by
asking finished ones; what that costs is not counted against the idea.
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

from nephros.data.batches import Batches
from nephros.data.dataset import Dataset, Split
from nephros.evaluation.scoring import predict
from nephros.models.classifier import Classifier
from nephros.recipe import Recipe
from nephros.training.distillation import ask, check_teachers
from nephros.training.progress import NoProgress
from nephros.training.trainer import Fit

Fresh = Callable[[int], Classifier]
"""A seed -> the idea's network with first weights of that seed."""
Targets = Callable[[Recipe, Dataset, Fresh], Tensor]
_CPU = torch.device("cpu")
_FOUND: dict[tuple[Recipe, int], Tensor] = {}
"""Out-of-fold answers by recipe, whose seed drew the images too, and number of folds."""
RUNS = Path("runs", "ours")
"""Where `nephros reproduce ours` puts its runs."""
_ANSWERS: dict[tuple[tuple[str, ...], str], Tensor] = {}
"""Those of finished runs, by their names and the data's SHA-256."""


def out_of_fold(recipe: Recipe, dataset: Dataset, fresh: Fresh, folds: int = 4) -> Tensor:
    """Return the probabilities of networks that have not seen the image in question; asked once a process."""
    key = (dataclasses.replace(recipe, teacher_share=0.0), folds)
    if key not in _FOUND:
        _FOUND[key] = _asked_by_folds(recipe, dataset, fresh, folds)
    return _FOUND[key]


def _asked_by_folds(recipe: Recipe, dataset: Dataset, fresh: Fresh, folds: int) -> Tensor:
    n = len(dataset.train)
    fold = np.random.default_rng(recipe.seed).permutation(n) % folds
    found = np.zeros((n, dataset.classes))
    for k in range(folds):
        found[fold == k] = _asked(recipe, dataset, fresh(recipe.seed + 1000 + k), fold != k, fold == k)
    return torch.from_numpy(found).float()


def born_again(recipe: Recipe, dataset: Dataset, fresh: Fresh) -> Tensor:
    """Return the probabilities of a network that learnt from the same images (Furlanello et al. 2018)."""
    every = np.ones(len(dataset.train), dtype=np.bool_)
    return torch.from_numpy(_asked(recipe, dataset, fresh(recipe.seed + 1000), every, every)).float()


def relabelled(recipe: Recipe, dataset: Dataset, fresh: Fresh) -> Tensor:
    """Return the labels, but out-of-fold probabilities where confident learning (Northcutt et al. 2021) doubts them.

    A label is doubted where another class's probability is above that class's mean over the images that bear it, and the
    greatest such.
    """
    p = out_of_fold(recipe, dataset, fresh)
    labels = torch.from_numpy(np.array(dataset.train.labels))
    usual = torch.stack([p[labels == c, c].mean() for c in range(dataset.classes)])
    bold = torch.where(p >= usual, p, -1.0)
    doubted = (bold.max(1).values > 0) & (bold.argmax(1) != labels)
    own = F.one_hot(labels, dataset.classes).float()
    return torch.where(doubted[:, None], p, own)


def taught_by(*names: str) -> Targets:
    """Return what asks finished runs of `nephros reproduce ours`, such as nephros-0: once a process, on all images alone."""

    def targets(recipe: Recipe, dataset: Dataset, _fresh: Fresh) -> Tensor:
        teachers = [RUNS / name for name in names]
        check_teachers(recipe, teachers, dataset)
        key = (names, dataset.provenance.sha256)
        if key not in _ANSWERS:
            _ANSWERS[key] = torch.from_numpy(ask(teachers, Batches(dataset.train, _CPU), dataset.classes, print))
        return _ANSWERS[key]

    return targets


def _asked(
    recipe: Recipe, dataset: Dataset, model: Classifier, learnt: NDArray[np.bool_], wanted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Train on some images of the train split; return the probabilities of others (m, classes)."""
    train = dataset.train
    plain = dataclasses.replace(recipe, teacher_share=0.0)
    part = Split(train.images[learnt], train.labels[learnt])
    few = Batches(Split(dataset.val.images[:512], dataset.val.labels[:512]), _CPU)
    fit = Fit(plain, model, Batches(part, _CPU), few, dataset.class_names)
    fit.run(None, NoProgress())
    asked = Batches(Split(train.images[wanted], train.labels[wanted]), _CPU)
    return predict(fit.model, asked, dataset.classes)
