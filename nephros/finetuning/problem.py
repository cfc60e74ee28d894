"""What all methods learn from: folds, by group where that is possible, and the features of a pretrained network."""

from __future__ import annotations

import logging

import torch

from nephros.data.dataset import Dataset
from nephros.errors import IncompatibleError, InvalidArgument
from nephros.finetuning.cross_validation import Problem
from nephros.finetuning.features import extract_features
from nephros.finetuning.folds import make_folds
from nephros.models.classifier import Classifier, PretrainedModel

logger = logging.getLogger(__name__)

TTA_VIEWS = 5
"""Views of each image, as in the recipe of the bundled model."""


def make_problem(
    start: Classifier,
    pretrained: PretrainedModel,
    dataset: Dataset,
    n_folds: int,
    seed: int,
    device: torch.device,
    *,
    falls_back: bool = False,
) -> Problem:
    """Return what all methods learn from; `falls_back` draws folds by image where groups, such as stacks, are too few."""
    train, class_names, groups = dataset.train, dataset.class_names, dataset.train.groups
    try:
        folds = make_folds(train.labels, class_names, groups, n_folds, seed)
    except (IncompatibleError, InvalidArgument) as error:
        if groups is None or not falls_back or n_folds < 2:
            raise
        groups = None
        folds = make_folds(train.labels, class_names, None, n_folds, seed)
        logger.warning(
            f"{str(error).partition(':')[0]}, so that folds are drawn by image: accuracy on a new stack or patient may be lower."
        )
    features = extract_features(start, train.images, TTA_VIEWS, device)
    return Problem(
        train,
        class_names,
        groups,
        folds,
        features,
        start,
        pretrained.model,
        TTA_VIEWS,
        seed,
        device,
        unlabeled=dataset.unlabeled,
    )
