"""Train and validation drawn anew from the two together, for protocols that drew their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nephros.data.dataset import Dataset, Split, missing_class_warnings
from nephros.errors import NephrosError


def resplit_train_val(dataset: Dataset, sizes: Sequence[int], seed: int) -> Dataset:
    """Return `dataset` with train and validation of `sizes` (two numbers) drawn at random from both; test stays as it is.

    The draw is uniform, not stratified, and each new split keeps the old order of its images.

    Raises:
        UserError: `sizes` are not two numbers of at least 1, or more than train and validation have together.
    """
    n_available = len(dataset.train) + len(dataset.val)
    if len(sizes) != 2 or min(sizes) < 1 or sum(sizes) > n_available:
        raise NephrosError(
            f"--resplit {','.join(map(str, sizes))} must be two whole numbers, for train and validation, that are at least 1 "
            f"and together at most the {n_available:,} images that the two have now."
        )
    images = np.concatenate([dataset.train.images, dataset.val.images])
    labels = np.concatenate([dataset.train.labels, dataset.val.labels])
    permutation = np.random.default_rng(seed).permutation(n_available)
    train_indices, val_indices = (
        np.sort(part) for part in (permutation[: sizes[0]], permutation[sizes[0] : sum(sizes)])
    )
    note = f"{sizes[0]} / {sizes[1]} drawn at random from train + validation, seed {seed}; test as it was"
    missing_labels = set(np.unique(dataset.train.labels)) - set(np.unique(labels[train_indices]))
    if missing_labels:
        names = ", ".join(dataset.class_names[label] for label in sorted(missing_labels))
        raise NephrosError(
            f"--resplit leaves train no image of {names}: draw more images, or with another --data-seed."
        )
    detail = "; ".join(part for part in (dataset.provenance.detail, note) if part)
    return replace(
        dataset,
        train=Split(images[train_indices], labels[train_indices]),
        val=Split(images[val_indices], labels[val_indices]),
        provenance=replace(dataset.provenance, detail=detail),
        warnings=tuple(warning for warning in dataset.warnings if not warning.startswith(("train ", "val ")))
        + missing_class_warnings("val", labels[val_indices], dataset.class_names),
    )
