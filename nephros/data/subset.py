"""Class-stratified subsets of a data set, and train and validation drawn again from the two together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nephros.data.dataset import Dataset
from nephros.data.split import Split, missing_class_warnings
from nephros.data.splitting import grouped_split, shared_group_warnings
from nephros.errors import InvalidArgument


def largest_remainder(counts: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Apportion `n` among classes by the largest-remainder method, at least one each.

    The arithmetic is exact; of equal remainders the earlier class comes first.

    Args:
        counts: (n_classes,) int64, images per class, all positive.
        n: between the number of classes and the number of images.

    Returns:
        (n_classes,) int64 with the sum `n`.
    """
    counts = counts.astype(np.int64)
    shares, remainders = np.divmod(counts * n, counts.sum())
    order = np.argsort(-remainders, kind="stable")
    shares[order[: n - int(shares.sum())]] += 1
    while (shares == 0).any():
        # A class too rare for a share takes one from the class with the most, which always has two or more.
        shares[np.argmax(shares)] -= 1
        shares[np.argmin(shares)] += 1
    return shares


def stratified_indices(labels: NDArray[np.int64], n: int, seed: int) -> NDArray[np.int64]:
    """Draw `n` indices at random, class by class in proportion.

    Args:
        labels: (n_labels,) int64; classes without a label take no part.
        n: number of indices, at least one per class.
        seed: the same labels, `n` and seed give the same indices.

    Returns:
        (n,) int64, ascending and distinct.

    Raises:
        InvalidArgument: `n`, which callers know as `subset`, is below the number of classes present or above the number of
            labels.
    """
    present, counts = np.unique(labels, return_counts=True)
    if n < len(present):
        raise InvalidArgument("subset", n, f"at least {len(present)}, one image per class")
    if n > len(labels):
        raise InvalidArgument(
            "subset",
            n,
            f"at most {len(labels):,}, the number of training images",
            hint="Leave it out to use all of them.",
        )
    rng = np.random.default_rng(seed)
    indices = [
        rng.permutation(np.flatnonzero(labels == label))[:quota]
        for label, quota in zip(present, largest_remainder(counts, n), strict=True)
    ]
    return np.sort(np.concatenate(indices)).astype(np.int64)


def stratified_subset(split: Split, n: int, seed: int) -> Split:
    """Return a class-stratified subset of `n` images of a split, in the split's order; errors as `stratified_indices`."""
    return split[stratified_indices(split.labels, n, seed)]


def subset_train(dataset: Dataset, n: int, seed: int) -> Dataset:
    """Return `dataset` with a class-stratified subset of `n` training images; val and test stay whole.

    Raises:
        InvalidArgument: `n` is below the number of classes or above the number of training images.
    """
    full_train_images = dataset.provenance.full_train_images or len(dataset.train)
    train = replace(dataset.train, names=_names(dataset.train, "train"))
    return replace(
        dataset,
        train=stratified_subset(train, n, seed),
        provenance=replace(
            dataset.provenance,
            detail=_add_note(dataset, f"train subset of {n}, class-stratified, seed {seed}"),
            full_train_images=full_train_images if n < full_train_images else None,
        ),
    )


def tuning_subset(dataset: Dataset, n: int, seed: int) -> Dataset:
    """Return `dataset` with `n` training images and a quarter as many validation images; test stays whole.

    Raises:
        InvalidArgument: `n` is below four times the number of classes or above the number of training images.
    """
    n_val = min(n // 4, len(dataset.val))
    n_classes = len(np.unique(dataset.val.labels))
    if n_val < n_classes:
        raise InvalidArgument(
            "subset",
            n,
            f"at least {4 * n_classes}",
            hint="A quarter of it is for validation, which needs an image of each class.",
        )
    val = replace(dataset.val, names=_names(dataset.val, "val"))
    return replace(subset_train(dataset, n, seed), val=stratified_subset(val, n_val, seed))


def resplit_train_val(dataset: Dataset, sizes: Sequence[int], seed: int) -> Dataset:
    """Return `dataset` with train and validation drawn again at random from the two together; test stays as it is.

    The draw is uniform, not stratified, and each new split keeps the order of its images. Images in groups, such as patients,
    are drawn by whole groups and class, so that the sizes are met as nearly as the groups allow.

    Args:
        dataset: the data set to split again.
        sizes: number of images in train and in validation.
        seed: of the draw.

    Raises:
        InvalidArgument: `sizes`, which callers know as `resplit`, are not two numbers of at least 1, are more than train and
            validation have, or leave a class without training images; or the groups are too few for two splits of two classes.
    """
    n_available = len(dataset.train) + len(dataset.val)
    sizes_text = ",".join(map(str, sizes))
    if len(sizes) != 2 or min(sizes) < 1 or sum(sizes) > n_available:
        raise InvalidArgument(
            "resplit",
            sizes_text,
            "two whole numbers, for train and validation, that are at least 1 and together at most the "
            f"{n_available:,} images that the two have now",
        )
    pool = _join_train_val(dataset)
    labels, groups = pool.labels, pool.groups
    if groups is None:
        permutation = np.random.default_rng(seed).permutation(n_available)
        train_indices, val_indices = (
            np.sort(part) for part in (permutation[: sizes[0]], permutation[sizes[0] : sum(sizes)])
        )
    else:
        train_indices, val_indices = _draw_groups(labels, groups, sizes, seed)
    missing_labels = set(np.unique(dataset.train.labels)) - set(np.unique(labels[train_indices]))
    if missing_labels:
        names = ", ".join(dataset.class_names[label] for label in sorted(missing_labels))
        raise InvalidArgument(
            "resplit",
            sizes_text,
            f"large enough that train has every class (this draw has no image of {names})",
            hint="Draw more images, or use another seed.",
        )
    n_left_out = n_available - len(train_indices) - len(val_indices)
    if dataset.provenance.full_train_images is not None:
        n_left_out += dataset.provenance.full_train_images - len(dataset.train)
    drawn_by = "at random" if groups is None else "by group and class"
    note = f"{len(train_indices)} / {len(val_indices)} drawn {drawn_by} from train + validation, seed {seed}; test unchanged"
    train, val = pool[train_indices], pool[val_indices]
    dropped = ("train ", "val ")
    return replace(
        dataset,
        train=train,
        val=val,
        provenance=replace(
            dataset.provenance,
            detail=_add_note(dataset, note),
            full_train_images=len(train) + n_left_out if n_left_out else None,
        ),
        warnings=tuple(
            text for text in dataset.warnings if not text.startswith(dropped) and "more than one split" not in text
        )
        + missing_class_warnings("val", labels[val_indices], dataset.class_names)
        + _straddling_warnings((train, val, dataset.test)),
    )


def _join_train_val(dataset: Dataset) -> Split:
    """Return train and validation as one split, with their names and the groups that both of them have."""
    train, val = dataset.train, dataset.val
    groups = None
    if dataset.provenance.n_groups is not None and train.groups is not None and val.groups is not None:
        groups = np.concatenate([train.groups, val.groups])
    names = np.concatenate([_names(train, "train"), _names(val, "val")])
    images, labels = np.concatenate([train.images, val.images]), np.concatenate([train.labels, val.labels])
    return Split(images, labels, groups, names)


def _draw_groups(
    labels: NDArray[np.int64], groups: NDArray[np.str_], sizes: Sequence[int], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of whole groups for train and validation, of about these sizes, ascending."""
    names, numbers = np.unique(groups, return_inverse=True)
    rest = len(labels) - sum(sizes)
    if rest < len(labels) / len(names):  # less than a group: left out, it would take one of each class
        rest = 0
    index = grouped_split(labels, numbers, seed, (*sizes, rest))
    train, val = np.flatnonzero(index == 0), np.flatnonzero(index == 1)
    if min(len(np.unique(labels[rows])) for rows in (train, val)) < 2:
        raise InvalidArgument(
            "resplit",
            ",".join(map(str, sizes)),
            f"left out, since {len(names):,} groups, such as patients, are too few to draw train and validation from",
            hint="Give `groups` as none to draw the images one by one.",
        )
    return train, val


def _straddling_warnings(splits: Sequence[Split]) -> tuple[str, ...]:
    """Return a warning where the splits share a group."""
    index = np.repeat(np.arange(len(splits)), [len(split) for split in splits])
    groups = [
        group
        for split in splits
        for group in (split.groups.tolist() if split.groups is not None else [""] * len(split))
    ]
    return shared_group_warnings(index, groups)


def _add_note(dataset: Dataset, note: str) -> str:
    """Return the data set's provenance detail with a note at its end."""
    return "; ".join(part for part in (dataset.provenance.detail, note) if part)


def _names(split: Split, name: str) -> NDArray[np.str_]:
    """Return the name of each image; of one without a name its place, such as ``val_images[12]``, which a part has not."""
    if split.names is not None:
        return split.names
    return np.array([f"{name}_images[{place}]" for place in range(len(split))], dtype=np.str_)
