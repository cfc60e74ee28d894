"""Images that a data set holds several times: in two splits, which makes results too good, or in two classes."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import numpy as np

from nephros.data.dataset import Split
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
    for name, split in splits.items():
        digests = [blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in split.images]
        flat = split.images.reshape(len(split), -1)
        varies = (flat != flat[:, :1]).any(axis=1).tolist()
        rows = [row for row, is_image in enumerate(varies) if is_image]
        for row in rows:
            label = int(split.labels[row])
            if (first := labels.setdefault(digests[row], label)) != label:
                n_conflicts, example = n_conflicts + 1, example or f"{class_names[first]} and {class_names[label]}"
        if name == "train":
            in_train = {digests[row] for row in rows}
        elif n_repeated := sum(digests[row] in in_train for row in rows):
            warnings.append(
                f"{n_repeated:,} of {pluralize(len(split), 'image')} of {name} are in train, too, pixel for pixel; results on "
                "them are too good."
            )
    if n_conflicts:
        warnings.append(
            f"{pluralize(n_conflicts, 'image')} repeat another one, pixel for pixel, that has another class ({example}); "
            "check the labels."
        )
    return tuple(warnings)
