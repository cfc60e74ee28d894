"""A user's own classes for a stack's nuclei, so that a model can be trained on them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.dataset import SPLITS
from nephros.data.image_folder import stratified_split
from nephros.errors import NephrosError

_EXPECTED_FORMAT = "it must be a CSV file with the columns id (the mask's number) and class"


def read_class_labels(path: str | Path) -> dict[int, str]:
    """Return the class of each nucleus by its number in the mask; UserError where the file can't say."""
    path = Path(path).expanduser().absolute()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise NephrosError(f"{path} can't be read ({error.strerror}); give the path of a CSV file.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise NephrosError(f"{path} is not a CSV file; {_EXPECTED_FORMAT}.") from error
    if not rows or not {"id", "class"} <= set(rows[0]):
        raise NephrosError(f"{path} has no rows or lacks a column; {_EXPECTED_FORMAT}.")
    classes: dict[int, str] = {}
    for line, row in enumerate(rows, start=2):
        nucleus_id, name = (row["id"] or "").strip(), (row["class"] or "").strip()
        if not nucleus_id.isdecimal() or not name:
            raise NephrosError(
                f"{path}: line {line} has the id '{nucleus_id}' and the class '{name}'; {_EXPECTED_FORMAT}."
            )
        if classes.setdefault(int(nucleus_id), name) != name:
            raise NephrosError(f"{path}: line {line} gives nucleus {nucleus_id} a second class; keep one of them.")
    return classes


def labeled_splits(
    images: NDArray[np.uint8], ids: NDArray[np.int64], mask_ids: NDArray[np.int64], classes: dict[int, str], seed: int
) -> dict[str, NDArray[Any]]:
    """Return MedMNIST's arrays of the nuclei that have a class: {train,val,test}_{images,labels} and class_names.

    Args:
        images: (n, 28, 28) uint8, of the nuclei `ids`, (n,).
        every: all numbers of the mask, those of nuclei left out of `images` too.
        seed: of the split, 7:1:2 by class. Class names are sorted.

    Raises:
        UserError: a number is not in the mask, or a class has fewer than 3 nuclei, or there is one class only.
    """
    if unknown_ids := sorted(set(classes) - set(mask_ids.tolist())):
        raise NephrosError(
            f"--classes names nucleus {unknown_ids[0]}, which the mask lacks; take the ids from the mask."
        )
    has_class = np.array([number in classes for number in ids.tolist()], dtype=np.bool_)
    class_names = sorted({classes[number] for number in ids[has_class].tolist()})
    labels = np.array([class_names.index(classes[number]) for number in ids[has_class].tolist()], dtype=np.int64)
    counts = np.bincount(labels, minlength=len(class_names))
    if len(class_names) < 2:
        raise NephrosError(
            f"--classes has {len(class_names)} class among the nuclei kept; a classifier needs at least two."
        )
    if counts.min() < 3:
        rarest_class = class_names[int(counts.argmin())]
        raise NephrosError(
            f"--classes has {counts.min()} nuclei of '{rarest_class}'; a class needs at least 3, one for each split."
        )
    split_index = stratified_split(labels, seed)
    arrays: dict[str, NDArray[Any]] = {"class_names": np.array(class_names)}
    for index, split in enumerate(SPLITS):
        arrays[f"{split}_images"] = images[has_class][split_index == index]
        arrays[f"{split}_labels"] = labels[split_index == index, None]
    return arrays
