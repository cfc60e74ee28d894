"""Folds of cross-validation: by group where groups are known, stratified by class in any case."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.errors import IncompatibleError, InvalidArgument

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Folds:
    """A partition of n images: each is held out exactly once."""

    held_out: tuple[Indices, ...]
    """Indices of each fold's images, ascending."""
    by_group: bool
    """Whether all images of a group are in one fold."""
    n_images: int

    def __len__(self) -> int:
        return len(self.held_out)

    def splits(self) -> list[tuple[Indices, Indices]]:
        """Return (train, held out) indices of each fold."""
        everything = np.arange(self.n_images)
        return [(np.setdiff1d(everything, fold), fold) for fold in self.held_out]


def make_folds(
    labels: NDArray[np.int64], class_names: tuple[str, ...], groups: NDArray[np.str_] | None, n_folds: int, seed: int
) -> Folds:
    """Return `n_folds` folds of the images with `labels` (n,), fewer where classes or groups are too few.

    Args:
        labels: (n,) class of each image.
        class_names: for messages.
        groups: (n,) group of each image, such as its stack or patient; None where groups are unknown.
        n_folds: at least 2.
        seed: of the draw.

    Raises:
        InvalidArgument: `n_folds` is below 2, or `groups` has another length, or fewer than two groups.
        IncompatibleError: a class is missing, has one image only, or is in one group only, so that no fold can hold it out
            and still learn it.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if n_folds < 2:
        raise InvalidArgument("folds", n_folds, "at least 2")
    units = np.arange(len(labels)) if groups is None else _check_groups(groups, len(labels))
    unit = "image" if groups is None else "group"
    per_class = [len(np.unique(units[labels == label])) for label in range(len(class_names))]
    for name, count in zip(class_names, per_class, strict=True):
        if count < 2:
            amount = f"a single training {unit}" if count else "no training image"
            raise IncompatibleError(
                f"The class {name} has {amount}, and cross-validation needs two {unit}s of each class: label more of it, or "
                "leave the class out."
            )
    n_folds = min(n_folds, *per_class)
    make_splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = make_splitter(n_folds, shuffle=True, random_state=seed % 2**32)  # scikit-learn takes no larger seed
    parts = [np.sort(held_out) for _, held_out in splitter.split(np.zeros(len(labels)), labels, groups)]
    return Folds(tuple(part for part in parts if len(part)), groups is not None, len(labels))


def _check_groups(groups: NDArray[np.str_], n_images: int) -> NDArray[np.str_]:
    if groups.shape != (n_images,):
        raise InvalidArgument(
            "groups", f"of {len(groups):,} entries", f"one group per training image, {n_images:,} here"
        )
    if len(np.unique(groups)) < 2:
        raise InvalidArgument(
            "groups",
            f"{groups[0]} for all training images",
            "several groups, such as patients, or none, which splits by image",
        )
    return groups
