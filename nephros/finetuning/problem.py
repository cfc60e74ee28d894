"""What all methods learn from: folds, by group where that is possible, and the features of a pretrained network."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from nephros.data.dataset import Dataset
from nephros.data.split import Split
from nephros.errors import IncompatibleError, InvalidArgument
from nephros.finetuning.features import extract_features
from nephros.finetuning.folds import Folds, Indices, make_folds
from nephros.finetuning.head import LinearHead
from nephros.finetuning.network import FittedMethod
from nephros.models.classifier import Classifier, PretrainedModel
from nephros.recipe import ModelConfig

logger = logging.getLogger(__name__)

TTA_VIEWS = 5
"""Views of each image, as in the recipe of the bundled model."""


@dataclass(frozen=True)
class Problem:
    """What all methods learn from."""

    train: Split
    class_names: tuple[str, ...]
    groups: NDArray[np.str_] | None
    folds: Folds
    features: NDArray[np.float32]
    """(n, views, d) of the pretrained network."""
    start: Classifier
    """The pretrained network, with any last layer."""
    model: ModelConfig
    tta_views: int
    seed: int
    device: torch.device
    unlabeled: NDArray[np.uint8] | None = None
    """(m, h, w) or (m, h, w, 3) images of the same source without a label; None where there are none."""
    unlabeled_groups: NDArray[np.str_] | None = None
    """(m,) group of each of these, "" where it is unknown; None where that is so of all."""
    reserved_groups: frozenset[str] = frozenset()
    """Groups of validation and test that train has no image of, whose unlabeled images are not to be learned from either."""
    heads: dict[bytes, LinearHead] = field(init=False, default_factory=dict)
    """Fitted heads by the images that they were fitted to, since every method starts from the same one."""
    networks: dict[bytes, FittedMethod] = field(init=False, default_factory=dict)
    """Those of ``network``, likewise: self-training starts from its predictions."""

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def usable_unlabeled(self, rows: Indices) -> Indices:
        """Return the indices of the unlabeled images from which a method may learn beside the training images at `rows`.

        Images of a group that is held out are not among them: a model that has learned from them tells less of other groups.
        """
        if self.unlabeled is None:
            return np.arange(0)
        if self.unlabeled_groups is None:
            return np.arange(len(self.unlabeled))
        held_out = set(self.reserved_groups)
        if self.folds.by_group and self.groups is not None:
            held_out |= set(self.groups.tolist()) - set(self.groups[rows].tolist())
        return np.flatnonzero(~np.isin(self.unlabeled_groups, np.array(sorted(held_out), np.str_)))

    @property
    def n_unknown_groups(self) -> int:
        """Number of unlabeled images that may be of a held-out group, for all that is known; 0 where none is held out."""
        if self.unlabeled is None or not (self.folds.by_group or self.reserved_groups):
            return 0
        return len(self.unlabeled) if self.unlabeled_groups is None else int((self.unlabeled_groups == "").sum())


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
        unlabeled_groups=dataset.unlabeled_groups,
        reserved_groups=reserved_groups(dataset),
    )


def reserved_groups(dataset: Dataset) -> frozenset[str]:
    """Return the groups of validation and test that train has no image of."""
    train, *others = (set(() if split.groups is None else split.groups.tolist()) for _, split in dataset.splits())
    return frozenset(set[str]().union(*others) - train)
