"""Splits and groups of the images of an npz file: as its arrays give them, or drawn here."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.data.npz.arrays import open_array, read_small_array
from nephros.data.npz.labels import decode_text
from nephros.data.npz.layout import NpzLayout
from nephros.data.split import SPLITS
from nephros.data.split_names import DuplicateSplitError, find_splits, split_of_flags
from nephros.data.splitting import SplitAssignment, assign_splits
from nephros.errors import FileError
from nephros.text_tables import join_words


def assign_arrays(
    path: Path,
    archive: zipfile.ZipFile,
    layout: NpzLayout,
    labels: Mapping[str, NDArray[np.int64]],
    is_labeled: Mapping[str, NDArray[np.bool_]],
    groups: Mapping[str, Sequence[str]],
    class_names: tuple[str, ...],
    seed: int,
    max_bytes: int,
    *,
    falls_back: bool = False,
    draw_test: bool = True,
) -> SplitAssignment:
    """Assign the labeled images of all arrays, one after the other, to splits.

    `labels` are theirs, by split, and `is_labeled` says of all images which they are. `groups` are those of `read_groups`.
    `max_bytes` is the free memory, as `nephros.data.npz.arrays.read_small_array` takes it.
    """
    given = None
    if layout.splits:
        given = _read_splits(path, archive, layout.splits, len(is_labeled[""]), max_bytes)[is_labeled[""]]
    elif layout.split_flags:
        given = _read_split_flags(path, archive, layout.split_flags, len(is_labeled[""]), max_bytes)[is_labeled[""]]
    elif "" not in labels:
        given = np.concatenate([np.full(len(values), SPLITS.index(split)) for split, values in labels.items()])
    group_names: list[str] = []
    for split, selected in is_labeled.items():
        group_names += itertools.compress(groups[split], selected)
    return assign_splits(
        path,
        np.concatenate(list(labels.values())),
        class_names,
        seed,
        given=given,
        given_by=_given_by(layout),
        groups=group_names,
        group_source=f"the array {join_words(layout.groups.values())}" if layout.groups else "",
        falls_back=falls_back,
        draw_test=draw_test,
    )


def read_groups(
    path: Path,
    archive: zipfile.ZipFile,
    layout: NpzLayout,
    is_labeled: Mapping[str, NDArray[np.bool_]],
    max_bytes: int,
) -> dict[str, list[str]]:
    """Return the group of each image, labeled or not, by split; "" for one without a group."""
    groups = {}
    for split, flags in is_labeled.items():
        name = layout.groups.get(split, "")
        texts = _read_text(path, archive, name, len(flags), max_bytes) if name else [""] * len(flags)
        groups[split] = [str(text).strip() for text in texts]
    return groups


def _given_by(layout: NpzLayout) -> str:
    """Return what gives the splits."""
    names = [layout.splits] if layout.splits else [*layout.split_flags.values()] or [*layout.images.values()]
    return f"its array{'s' if len(names) > 1 else ''} {join_words(names)}"


def _read_split_flags(
    path: Path, archive: zipfile.ZipFile, flags: Mapping[str, str], n_images: int, max_bytes: int
) -> NDArray[np.int64]:
    """Return the split of each image, as arrays of truth values say."""
    columns = {}
    for split, name in flags.items():
        array = open_array(path, archive, name)
        if array.dtype.kind not in "biu" or array.shape not in ((n_images,), (n_images, 1)):
            raise FileError(
                path,
                f"{path}: {name} is {array.dtype} {array.shape}; it must hold a truth value for each of {n_images} images.",
            )
        columns[split] = read_small_array(path, archive, array, max_bytes).reshape(-1).astype(bool).tolist()
    splits = []
    for index, row in enumerate(zip(*columns.values(), strict=True)):
        try:
            splits.append(SPLITS.index(split_of_flags(dict(zip(columns, row, strict=True)))))
        except ValueError as error:
            raise FileError(path, f"{path}: image {index} is {error}.") from error
    return np.array(splits, dtype=np.int64)


def _read_splits(path: Path, archive: zipfile.ZipFile, name: str, n_images: int, max_bytes: int) -> NDArray[np.int64]:
    """Return the split of each image, as an array of words says."""
    values = _read_text(path, archive, name, n_images, max_bytes)
    words, inverse = np.unique(np.char.lower(values), return_inverse=True)
    try:
        splits = {word: SPLITS.index(split) for split, word in find_splits(words.tolist()).items()}
    except DuplicateSplitError as error:
        raise FileError(path, f"{path}: in {name}, {error}; use the words train, val and test.") from error
    if unknown := [str(word) for word in words if word not in splits]:
        raise FileError(
            path, f"{path}: {name} holds '{unknown[0][:80]}', but it must hold the words train, val and test."
        )
    return np.array([splits[word] for word in words.tolist()], dtype=np.int64)[inverse.reshape(-1)]


def _read_text(path: Path, archive: zipfile.ZipFile, name: str, n_images: int, max_bytes: int) -> NDArray[np.str_]:
    """Return an array of a word, or a whole number as text, per image."""
    array = open_array(path, archive, name)
    if array.dtype.kind not in "USiu" or array.shape not in ((n_images,), (n_images, 1)):
        raise FileError(
            path,
            f"{path}: {name} is {array.dtype} {array.shape}; it must hold a word or a whole number for each of {n_images} "
            "images.",
        )
    values = read_small_array(path, archive, array, max_bytes).reshape(-1)
    return decode_text(values) if values.dtype.kind in "US" else values.astype(np.str_)
