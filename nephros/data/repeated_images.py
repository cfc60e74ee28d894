"""Images that a data set holds several times: in two splits, which makes results too good, or in two classes."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from nephros.data.split import Split
from nephros.text_tables import pluralize

_MAX_BYTES = 1 << 30
"""Bytes of images up to which a data set is looked through."""


def repeated_image_warnings(splits: Mapping[str, Split], class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return warnings that count images of validation and test that train has too, pixel for pixel, and those in two classes.

    Images of a single value don't count. Data sets of more than 1 GiB are not looked through.

    Args:
        splits: split -> its images, uint8.
        class_names: by label.
    """
    if sum(split.images.nbytes for split in splits.values()) > _MAX_BYTES:
        return ()
    labels: dict[bytes, int] = {}
    in_train: set[bytes] = set()
    n_conflicts, example = 0, ""
    warnings = []
    splits = {name: split for name, split in splits.items() if len(split)}
    may_repeat = _find_equal_sums(splits)
    for name, split in splits.items():
        flat = split.images.reshape(len(split), -1)
        rows = np.flatnonzero(may_repeat[name] & (flat.min(axis=1) != flat.max(axis=1))).tolist()
        digests = {row: blake2b(np.ascontiguousarray(flat[row]).data, digest_size=16).digest() for row in rows}
        for row in rows:
            label = int(split.labels[row])
            if (first := labels.setdefault(digests[row], label)) != label:
                n_conflicts, example = n_conflicts + 1, example or f"'{class_names[first]}' and '{class_names[label]}'"
        if name == "train":
            in_train = set(digests.values())
        elif n_repeated := sum(digest in in_train for digest in digests.values()):
            warnings.append(
                f"{n_repeated:,} of {pluralize(len(split), 'image')} of {name} are in train, too, pixel for pixel; results on "
                "them are too good."
            )
    if n_conflicts:
        warnings.append(
            f"{pluralize(n_conflicts, 'image')} {'repeats' if n_conflicts == 1 else 'repeat'} another one, pixel for pixel, that "
            f"has another class ({example}); check the labels."
        )
    return tuple(warnings)


def _find_equal_sums(splits: Mapping[str, Split]) -> dict[str, NDArray[np.bool_]]:
    """Return split -> (n,) whether an image may equal another one of any split: equal images have equal weighted sums.

    The sums, of 8 pixels at a time with random weights, take a twentieth of the time that digests of all images would.
    """
    sums = []
    for split in splits.values():
        flat = np.ascontiguousarray(split.images).reshape(len(split), -1)
        integers = np.ascontiguousarray(flat[:, : flat.shape[1] // 8 * 8]).view(np.uint64)
        weights = np.random.default_rng(0).integers(2**63, size=integers.shape[1], dtype=np.uint64) * 2 + 1
        sums.append(integers @ weights)
    _, inverse, counts = np.unique(np.concatenate(sums), return_inverse=True, return_counts=True)
    repeats = np.split(counts[inverse.ravel()] > 1, np.cumsum([len(split) for split in splits.values()])[:-1])
    return dict(zip(splits, repeats, strict=True))
