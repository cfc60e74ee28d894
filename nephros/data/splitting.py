"""Splits drawn here: images assigned to train, val and test, where their source leaves that open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.split import SPLITS
from nephros.errors import FileError, InvalidArgument
from nephros.text_tables import join_words

RATIO = (7, 1, 2)
"""Parts of the images that train, val and test get."""
RATIO_WITHOUT_TEST = (9, 1, 0)
GROUP_RULES = ("auto", "none", "subfolders", "folders", "names")
"""What may give the groups of images, beside the name of an array or a column, as `nephros.load_dataset` explains."""
UNGROUPED = "none"
"""The rule of a run that was recorded before there were groups."""
_TRAIN, _VAL, _TEST = range(3)


@dataclass(frozen=True)
class SplitAssignment:
    """The split of each image, and how it came about."""

    index: NDArray[np.int64]
    """(n,) int64: 0, 1 or 2, for train, val or test."""
    rule: str
    """How the images were assigned, for the provenance."""
    n_groups: int | None = None
    """Number of groups, such as patients; None where there are none."""
    warnings: tuple[str, ...] = ()
    groups: NDArray[np.str_] | None = None
    """(n,) group of each image; an image of no group is one by itself."""

    def groups_at(self, rows: NDArray[Any]) -> NDArray[np.str_] | None:
        """Return the groups of some of the images, by index or mask; None where there are none."""
        return None if self.groups is None else self.groups[rows]


def check_group_rule(groups: str) -> None:
    """Raise InvalidArgument unless `groups` is one of `GROUP_RULES`, where there are no columns that it may name."""
    if groups not in GROUP_RULES:
        raise InvalidArgument(
            "groups", groups, f"one of {', '.join(GROUP_RULES)}, or a column's name where the labels are in a table"
        )


def assign_splits(
    path: Path,
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    seed: int,
    *,
    given: NDArray[np.int64] | None = None,
    given_by: str = "",
    groups: Sequence[str | None] | None = None,
    group_source: str = "",
    falls_back: bool = False,
    draw_test: bool = True,
) -> SplitAssignment:
    """Assign images to splits: as their source gives them, and what it leaves open by class and, if there are any, by group.

    Args:
        path: of the source, for messages.
        labels: (n,) int64.
        class_names: by label.
        seed: the same arguments give the same splits.
        given: (n,) int64, the split that the source gives each image; it may lack val or test, which are then drawn from train
            so that they have the ratio of `draw_test`. None where the source has no splits.
        given_by: what gives the splits, such as ``its folders train and test``.
        groups: of each image the name of its group, such as a patient; None for an image of no group, or for all of them.
        group_source: what gives the groups, such as ``subfolders of class folders``.
        falls_back: split by image, with a warning, where there are too few groups, which still make the folds of fine-tuning.
        draw_test: whether there is to be a test split, with train:val:test = 7:1:2, or train:val = 9:1 without one.

    Raises:
        FileError: there is no training image, or too few images or groups to draw a split from.
    """
    ratio: tuple[int, ...] = RATIO if draw_test else RATIO_WITHOUT_TEST
    drawn = SPLITS if draw_test else SPLITS[:2]
    missing = [split for split in range(3) if ratio[split] and (given is None or split not in given)]
    if given is not None and _TRAIN in missing:
        raise FileError(path, f"{path} has no training images; name the training split train.")
    if single_group := _single_group(groups):
        groups = None
    ids = None if groups is None or not any(groups) else _group_ids(groups)
    n_groups = None if ids is None else len({group for group in groups or () if group})
    group_names = None if ids is None else np.array([group or f"image {i}" for i, group in enumerate(groups or ())])
    if given is not None and not missing:
        _check_training_counts(path, labels, given, class_names)
        warnings = _single_group_warnings(single_group) + shared_group_warnings(given, groups)
        return SplitAssignment(given, f"split by {given_by}", n_groups, warnings, group_names)
    ratio = tuple(part if split in (_TRAIN, *missing) else 0 for split, part in enumerate(ratio))
    pool = np.arange(len(labels)) if given is None else np.flatnonzero(given == _TRAIN)
    index = np.zeros(len(labels), dtype=np.int64) if given is None else given.copy()
    _check_counts(path, labels[pool], class_names, sum(part > 0 for part in ratio))
    groups_text = f"{n_groups:,} groups ({group_source})" if n_groups else ""
    # With one group more than splits, train has two, from which folds can be drawn.
    is_grouped = ids is not None and not (falls_back and n_groups and n_groups <= len(drawn))
    if ids is not None and is_grouped:
        pool_ids = np.unique(ids[pool], return_inverse=True)[1]
        index[pool] = grouped_split(labels[pool], pool_ids, seed, ratio)
        is_grouped = not falls_back or _poor_split(labels, index, missing) is None
        if is_grouped:
            _check_groups(path, labels, index, missing, groups_text)
    if not is_grouped:
        index[pool] = stratified_split(labels[pool], seed, ratio)
    warnings = _single_group_warnings(single_group)
    if ids is None or is_grouped:
        warnings += shared_group_warnings(index, groups)
    else:
        warnings += (
            f"{groups_text} are too few to keep apart in {join_words(drawn)}, so that images are split one by one and all "
            "groups are in more than one split: results on others may be worse.",
        )
    unit = "by group and class" if is_grouped else "by class"
    rule = _rule(unit, seed, missing, ratio, given_by if given is not None else "", groups_text if is_grouped else "")
    return SplitAssignment(index, rule, n_groups, warnings, group_names)


def stratified_split(labels: NDArray[np.int64], seed: int, ratio: tuple[int, ...] = RATIO) -> NDArray[np.int64]:
    """Assign images to train, val and test (0, 1, 2) in the given ratio within each class, at least one to each.

    Args:
        labels: (n,) int64; every class needs an image for each split whose part is above 0.
        seed: the same labels and seed give the same split.
        ratio: parts of train, val and test.

    Returns:
        (n,) int64, the split of each image.
    """
    rng = np.random.default_rng(seed)
    split_index = np.zeros(len(labels), dtype=np.int64)
    total = sum(ratio)
    for label in np.unique(labels):
        indices = rng.permutation(np.flatnonzero(labels == label))
        n_val, n_test = (max(1, (len(indices) * part + total // 2) // total) if part else 0 for part in ratio[1:])
        split_index[indices[:n_val]] = _VAL
        split_index[indices[n_val : n_val + n_test]] = _TEST
    return split_index


def grouped_split(
    labels: NDArray[np.int64], groups: NDArray[np.int64], seed: int, ratio: tuple[int, ...] = RATIO
) -> NDArray[np.int64]:
    """Assign whole groups to train, val and test (0, 1, 2), so that each class comes near the given ratio.

    Every class gets into train and, where it has groups enough, into test and val. The rest goes one by one, large groups
    first, to where it lowers the squared deviation from the ratio most, of the classes' shares and of all images'.

    Args:
        labels: (n,) int64.
        groups: (n,) int64 from 0, the group of each image.
        seed: the same arguments give the same split; groups of similar size come in another order with another seed.
        ratio: parts of train, val and test; a split whose part is 0 gets none.

    Returns:
        (n,) int64, the split of each image, the same for all images of one group.
    """
    rng = np.random.default_rng(seed)
    counts = np.zeros((groups.max() + 1, labels.max() + 2))
    np.add.at(counts, (groups, labels), 1)
    counts[:, -1] = counts.sum(axis=1)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    deficit = np.repeat(np.array(ratio)[:, None] / sum(ratio), shares.shape[1], axis=1)
    split_of_group = np.full(len(counts), -1)
    order = np.argsort(-(np.log2(counts[:, -1]) + rng.random(len(counts))), kind="stable")

    def assign(group: int, split: int) -> None:
        split_of_group[group] = split
        deficit[split] -= shares[group]

    rarest_first = np.argsort(np.count_nonzero(counts[:, :-1], axis=0), kind="stable")
    for split in (split for split in (_TRAIN, _TEST, _VAL) if ratio[split]):
        for label in rarest_first:
            members = order[counts[order, label] > 0]
            free = members[split_of_group[members] < 0]
            if len(free) and not (split_of_group[members] == split).any():
                # The change in squared deviation; of groups that are about as good as the best, the seed decides.
                change = (shares[free] ** 2 - 2 * shares[free] * deficit[split]).sum(axis=1)
                assign(rng.choice(free[change <= change.min() + np.abs(change.min()) / 4]), split)
    drawn = np.flatnonzero(ratio)
    for group in order[split_of_group[order] < 0]:
        assign(group, drawn[np.argmax(deficit[drawn] @ shares[group])])
    return split_of_group[groups]


def _single_group(groups: Sequence[str | None] | None) -> str:
    """Return the group that all images are of; empty where there are several, or none."""
    names = set(groups or ())
    return (names.pop() or "") if len(names) == 1 else ""


def _single_group_warnings(group: str) -> tuple[str, ...]:
    """Return a warning where all images are of one group, so that no split can keep groups apart."""
    if not group:
        return ()
    return (
        f"all images are of one group (patient, slide), {group}, so they are split one by one; results on others may be worse.",
    )


def _group_ids(groups: Sequence[str | None]) -> NDArray[np.int64]:
    """Return a number per group, (n,) int64; an image of no group is a group of its own."""
    numbers: dict[str | int, int] = {}
    return np.array([numbers.setdefault(group or index, len(numbers)) for index, group in enumerate(groups)], np.int64)


def _rule(unit: str, seed: int, missing: Sequence[int], ratio: tuple[int, ...], given_by: str, groups_text: str) -> str:
    """Return in words how the splits in `missing` were drawn."""
    keep_together = f"; the images of each of {groups_text} are in one split" if groups_text else ""
    parts = ":".join(str(part) for part in ratio if part)
    if not given_by:
        return f"split {parts} {unit} with seed {seed}{keep_together}"
    names = [SPLITS[split] for split in (_TRAIN, *missing)]
    return (
        f"split by {given_by}; {join_words(names[1:])} drawn from train, {':'.join(names)} = {parts} {unit} with seed "
        f"{seed}{keep_together}"
    )


def _check_training_counts(
    path: Path, labels: NDArray[np.int64], index: NDArray[np.int64], class_names: Sequence[str]
) -> None:
    """Raise FileError for a class that other splits have and train lacks."""
    unknown = np.setdiff1d(labels, labels[index == _TRAIN])
    if len(unknown):
        raise FileError(
            path, f"{path} has no training images of {class_names[unknown[0]]}; every class needs training images."
        )


def _check_counts(path: Path, labels: NDArray[np.int64], class_names: Sequence[str], n_splits: int) -> None:
    """Raise FileError for a class with fewer images than splits are drawn."""
    counts = np.bincount(labels, minlength=len(class_names))
    label = int(counts.argmin())
    if counts[label] < n_splits:
        raise FileError(
            path,
            f"{path} has {counts[label]} images of {class_names[label]} to split; a class needs at least {n_splits}, one for "
            "each split.",
        )


def _poor_split(labels: NDArray[np.int64], index: NDArray[np.int64], drawn: Sequence[int]) -> int | None:
    """Return the first drawn split of fewer than two classes, which nothing can be measured on; None where there is none."""
    return next((split for split in drawn if len(np.unique(labels[index == split])) < 2), None)


def _check_groups(
    path: Path, labels: NDArray[np.int64], index: NDArray[np.int64], drawn: Sequence[int], groups_text: str
) -> None:
    """Raise FileError where too few groups leave a drawn split poor."""
    around = "; or as folders, where the folders of patients hold class folders" if "subfolders" in groups_text else ""
    if (split := _poor_split(labels, index, drawn)) is not None:
        raise FileError(
            path,
            f"{path} has {groups_text}, too few to draw {SPLITS[split]} from so that all images of a group are in one split "
            f"and each split has two classes or more; a class needs at least {len({_TRAIN, *drawn})} groups. If these are no "
            f"patients or slides, give `groups` as none, which splits by image{around}.",
        )


def shared_group_warnings(index: NDArray[np.int64], groups: Sequence[str | None] | None) -> tuple[str, ...]:
    """Return a warning where splits, (n,) numbers of SPLITS, share a group."""
    splits_of_group: dict[str, set[int]] = {}
    for group, split in zip(groups or (), index.tolist(), strict=False):
        if group:
            splits_of_group.setdefault(group, set()).add(split)
    shared = {group: splits for group, splits in splits_of_group.items() if len(splits) > 1}
    if not shared:
        return ()
    group, splits = next(iter(shared.items()))
    names = join_words(SPLITS[split] for split in sorted(splits))
    return (
        f"{len(shared):,} of {len(splits_of_group):,} groups are in more than one split, such as {group} in {names}; results "
        "on images of a patient or slide that the model was trained on are too good.",
    )
