"""The last step of opening a data set, whatever its source: its splits, its task, and the warnings that hold for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from nephros.data.class_names import similar_name_warnings
from nephros.data.dataset import Dataset
from nephros.data.images.input_conversion import InputConversion
from nephros.data.medmnist import MedMNISTInfo
from nephros.data.provenance import Provenance
from nephros.data.repeated_images import repeated_image_warnings
from nephros.data.split import SPLITS, Split, missing_class_warnings
from nephros.data.splitting import SplitAssignment
from nephros.escaping import escape_surrogates


def divide(
    images: NDArray[np.uint8], labels: NDArray[np.int64], assignment: SplitAssignment, names: NDArray[np.str_]
) -> dict[str, Split]:
    """Return split -> its images, (n, h, w) or (n, h, w, 3), labels (n,) and names (n,), in their order."""
    members = [np.flatnonzero(assignment.index == number) for number in range(len(SPLITS))]
    return {
        name: Split(images[rows], labels[rows], assignment.groups_at(rows), names[rows])
        for name, rows in zip(SPLITS, members, strict=True)
    }


def assemble(
    splits: Mapping[str, Split],
    class_names: tuple[str, ...],
    provenance: Provenance,
    conversion: InputConversion,
    warnings: Iterable[str],
    info: MedMNISTInfo | None = None,
    *,
    is_volumetric: bool = False,
) -> Dataset:
    """Return the data set.

    Args:
        splits: train, val and test.
        class_names: by label.
        provenance: where it comes from.
        conversion: how its files became these images.
        warnings: what is to be known of its source.
        info: the MedMNIST data set that it is, if it is one.
        is_volumetric: whether the images are volumes, (n, h, w, d).
    """
    train, val, test = (splits[name] for name in SPLITS)
    task = info.task if info else "binary-class" if len(class_names) == 2 else "multi-class"
    all_warnings = [
        *missing_class_warnings("val", val.labels, class_names),
        *(missing_class_warnings("test", test.labels, class_names) if len(test) else ()),
        *warnings,
        *similar_name_warnings(class_names),
        *(() if provenance.split == "official" else repeated_image_warnings(splits, class_names)),
    ]
    # Names of files that are no UTF-8 text can't be stored as they are.
    texts = tuple(map(escape_surrogates, all_warnings))
    return Dataset(train, val, test, class_names, provenance, task, texts, conversion, is_volumetric=is_volumetric)
