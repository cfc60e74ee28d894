"""A user's own classes for a stack's nuclei, so that a model can be trained on them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.dataset import SPLITS
from nephros.data.image_folder import assign
from nephros.errors import UserError

FORM = "it must be a CSV file with the columns id (the mask's number) and class"


def read_classes(path: str | Path) -> dict[int, str]:
    """Return the class of each nucleus by its number in the mask; UserError where the file can't say."""
    path = Path(path).expanduser().absolute()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}); give the path of a CSV file.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file; {FORM}.") from error
    if not rows or not {"id", "class"} <= set(rows[0]):
        raise UserError(f"{path} has no rows or lacks a column; {FORM}.")
    classes: dict[int, str] = {}
    for line, row in enumerate(rows, start=2):
        number, name = (row["id"] or "").strip(), (row["class"] or "").strip()
        if not number.isdecimal() or not name:
            raise UserError(f"{path}: line {line} has the id '{number}' and the class '{name}'; {FORM}.")
        if classes.setdefault(int(number), name) != name:
            raise UserError(f"{path}: line {line} gives nucleus {number} a second class; keep one of them.")
    return classes


def splits(
    images: NDArray[np.uint8], ids: NDArray[np.int64], every: NDArray[np.int64], classes: dict[int, str], seed: int
) -> dict[str, NDArray[Any]]:
    """Return MedMNIST's arrays of the nuclei that have a class: {train,val,test}_{images,labels} and class_names.

    Args:
        images: (n, 28, 28) uint8, of the nuclei `ids`, (n,).
        every: all numbers of the mask, those of nuclei left out of `images` too.
        seed: of the split, 7:1:2 by class. Class names are sorted.

    Raises:
        UserError: a number is not in the mask, or a class has fewer than 3 nuclei, or there is one class only.
    """
    if strange := sorted(set(classes) - set(every.tolist())):
        raise UserError(f"--classes names nucleus {strange[0]}, which the mask lacks; take the ids from the mask.")
    known = np.array([number in classes for number in ids.tolist()], dtype=np.bool_)
    names = sorted({classes[number] for number in ids[known].tolist()})
    labels = np.array([names.index(classes[number]) for number in ids[known].tolist()], dtype=np.int64)
    counts = np.bincount(labels, minlength=len(names))
    if len(names) < 2:
        raise UserError(f"--classes has {len(names)} class among the nuclei kept; a classifier needs at least two.")
    if counts.min() < 3:
        few = names[int(counts.argmin())]
        raise UserError(
            f"--classes has {counts.min()} nuclei of '{few}'; a class needs at least 3, one for each split."
        )
    where = assign(labels, seed)
    arrays: dict[str, NDArray[Any]] = {"class_names": np.array(names)}
    for part, split in enumerate(SPLITS):
        arrays[f"{split}_images"] = images[known][where == part]
        arrays[f"{split}_labels"] = labels[where == part, None]
    return arrays
