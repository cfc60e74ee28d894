"""A smaller train split with the classes in the same proportions, for rough tuning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nephros.data.dataset import Dataset, Split
from nephros.errors import NephrosError


def stratified_indices(labels: NDArray[np.int64], n: int, seed: int) -> NDArray[np.int64]:
    """Pick `n` of the labels' indices at random, class by class in proportion.

    Args:
        labels: (len,) int64; classes that have no label take no part.
        n: how many, at least one a class.
        seed: of the draw; the same labels, `n` and seed give the same indices.

    Returns:
        (n,) int64, ascending and distinct.

    Raises:
        UserError: `n` is below the number of classes present, or above the number of labels.
    """
    present, counts = np.unique(labels, return_counts=True)
    if n < len(present):
        raise NephrosError(
            f"--subset {n} is too small: it needs at least one image of each of the {len(present)} classes."
        )
    if n > len(labels):
        raise NephrosError(f"--subset {n} is more than the {len(labels)} training images; leave it out to use all.")
    rng = np.random.default_rng(seed)
    indices = [
        rng.permutation(np.flatnonzero(labels == label))[:quota]
        for label, quota in zip(present, largest_remainder(counts, n), strict=True)
    ]
    return np.sort(np.concatenate(indices)).astype(np.int64)


def largest_remainder(counts: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Share `n` among classes of `counts` images, (classes,) int64, by largest remainder and at least one each.

    Integer arithmetic throughout; of equal remainders the earlier class is served first. `counts` are all positive and
    `n` lies between their number and their sum.
    """
    counts = counts.astype(np.int64)
    shares, remainders = np.divmod(counts * n, counts.sum())
    order = np.argsort(-remainders, kind="stable")
    shares[order[: n - int(shares.sum())]] += 1
    while (shares == 0).any():
        # A class too rare for a share takes one from the class that has most, which always has two or more.
        shares[np.argmax(shares)] -= 1
        shares[np.argmin(shares)] += 1
    return shares


def subset_train(dataset: Dataset, n: int, seed: int) -> Dataset:
    """Return `dataset` with `n` of its training images, class-stratified; val and test stay whole.

    Raises:
        UserError: `n` is below the number of classes or above the number of training images.
    """
    note = f"train subset of {n}, class-stratified, seed {seed}"
    detail = "; ".join(part for part in (dataset.provenance.detail, note) if part)
    return replace(
        dataset,
        train=stratified_subset(dataset.train, n, seed),
        provenance=replace(dataset.provenance, detail=detail),
    )


def stratified_subset(split: Split, n: int, seed: int) -> Split:
    """Return `n` of a split's images, class-stratified, in the split's order; UserError as `stratified_indices`."""
    indices = stratified_indices(split.labels, n, seed)
    return Split(split.images[indices], split.labels[indices])


def tuning_subset(dataset: Dataset, n: int, seed: int) -> Dataset:
    """Return `dataset` with `n` training images and a quarter as many for validation, for tuning; test stays whole.

    Raises:
        UserError: `n` is below four times the number of classes or above the number of training images.
    """
    n_val = min(n // 4, len(dataset.val))
    if n_val < len(np.unique(dataset.val.labels)):
        raise NephrosError(
            f"--subset {n} is too small: a quarter of it is for validation, which needs an image of each class."
        )
    return replace(subset_train(dataset, n, seed), val=stratified_subset(dataset.val, n_val, seed))
