"""Classes that a user assigns to a stack's nuclei, so that a model can be trained on them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.dataset import SPLITS, class_name_fault
from nephros.data.splitting import stratified_split
from nephros.errors import FileError, IncompatibleError

_EXPECTED_FORMAT = "it must be a CSV file with the columns id (the nucleus's id in the mask) and class"


def read_class_labels(path: str | Path) -> dict[int, str]:
    """Read a CSV file with the columns ``id`` and ``class``, and return the class of each nucleus by its id in the mask.

    Raises:
        FileError: the file can't be read or is not such a table.
    """
    path = Path(path).expanduser().absolute()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise FileError(path, f"{path} can't be read ({error.strerror}); give the path of a CSV file.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileError(path, f"{path} is not a CSV file; {_EXPECTED_FORMAT}.") from error
    if not rows or not {"id", "class"} <= set(rows[0]):
        raise FileError(path, f"{path} has no rows or lacks a column; {_EXPECTED_FORMAT}.")
    class_of_id: dict[int, str] = {}
    for line, row in enumerate(rows, start=2):
        nucleus_id, class_name = (row["id"] or "").strip(), (row["class"] or "").strip()
        if not nucleus_id.isdecimal() or not class_name:
            raise FileError(
                path, f"{path}: line {line} has the id '{nucleus_id}' and the class '{class_name}'; {_EXPECTED_FORMAT}."
            )
        if class_of_id.setdefault(int(nucleus_id), class_name) != class_name:
            raise FileError(path, f"{path}: line {line} gives nucleus {nucleus_id} a second class; keep one of them.")
    return class_of_id


def labeled_splits(
    images: NDArray[np.uint8],
    ids: NDArray[np.int64],
    mask_ids: NDArray[np.int64],
    class_of_id: dict[int, str],
    seed: int,
) -> dict[str, NDArray[Any]]:
    """Split the nuclei that have a class 7:1:2 by class.

    Args:
        images: (n, 28, 28) uint8.
        ids: (n,) int64, the ids of the images' nuclei in the mask.
        mask_ids: all ids of the mask, including nuclei without an image.
        class_of_id: class names by id.
        seed: of the split.

    Returns:
        Arrays in MedMNIST's layout: {train,val,test}_{images,labels}, and class_names, which are sorted.

    Raises:
        IncompatibleError: an id is not in the mask, a class has fewer than 3 nuclei, or there is only one class.
    """
    if unknown_ids := sorted(set(class_of_id) - set(mask_ids.tolist())):
        raise IncompatibleError(
            f"`classes` has the nucleus {unknown_ids[0]}, which is not in the mask; take the ids from the mask."
        )
    has_class = np.array([nucleus_id in class_of_id for nucleus_id in ids.tolist()], dtype=np.bool_)
    names = [class_of_id[nucleus_id] for nucleus_id in ids[has_class].tolist()]
    class_names = sorted(set(names))
    labels = np.array([class_names.index(name) for name in names], dtype=np.int64)
    counts = np.bincount(labels, minlength=len(class_names))
    if len(class_names) < 2:
        raise IncompatibleError(
            f"`classes` has {len(class_names)} class among the nuclei kept; a classifier needs at least two."
        )
    if fault := class_name_fault(class_names):
        raise IncompatibleError(f"In `classes`, sorted by name, {fault}; spell each class in one way.")
    if counts.min() < 3:
        rarest_class = class_names[int(counts.argmin())]
        raise IncompatibleError(
            f"`classes` has {counts.min()} nuclei of '{rarest_class}'; a class needs at least 3, one for each split."
        )
    split_index = stratified_split(labels, seed)
    arrays: dict[str, NDArray[Any]] = {"class_names": np.array(class_names)}
    for index, split in enumerate(SPLITS):
        arrays[f"{split}_images"] = images[has_class][split_index == index]
        arrays[f"{split}_labels"] = labels[split_index == index, None]
    return arrays
