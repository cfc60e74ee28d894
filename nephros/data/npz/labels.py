"""Labels of an npz file as numbers from 0: integers, whole floats, truth values, text and one-hot rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.delimited_text import is_missing
from nephros.data.folders.image_files import sort_class_names
from nephros.errors import FileError


@dataclass(frozen=True)
class DecodedLabels:
    """The labels of all arrays of a file."""

    labels: dict[str, NDArray[np.int64]]
    """Array name -> (n,) int64 from 0."""
    class_names: tuple[str, ...] = ()
    """Names that the labels themselves give, by label; none where they are numbers from 0."""
    notes: tuple[str, ...] = ()
    """How they were read, where that isn't plain."""


def decode_labels(
    path: Path, arrays: Mapping[str, NDArray[Any]], class_names: tuple[str, ...] = (), n_classes: int = 0
) -> DecodedLabels:
    """Return labels as numbers from 0.

    Args:
        path: of the file, for messages.
        arrays: array name -> (n,), (n, 1) or, one-hot, (n, n_classes): numbers, truth values or text.
        class_names: of the file, if it has them; labels that are text are looked up there.
        n_classes: number of classes, where it is known.

    Raises:
        FileError: labels are fractions, not finite, negative, of several kinds, or several per image.
    """
    notes: list[str] = []
    columns = {name: _single_column(path, name, values, notes) for name, values in arrays.items()}
    is_text = {name: values.dtype.kind in "US" for name, values in columns.items()}
    if len(set(is_text.values())) > 1:
        text = next(name for name, value in is_text.items() if value)
        number = next(name for name, value in is_text.items() if not value)
        raise FileError(path, f"{path}: {text} is text, but {number} is numbers; use one of them for all labels.")
    if all(is_text.values()):
        return _decode_names(path, {name: decode_text(values) for name, values in columns.items()}, class_names, notes)
    are_truth_values = all(values.dtype.kind == "b" for values in columns.values())
    names: tuple[str, ...] = ("False", "True") if are_truth_values and not class_names else ()
    numbers = {name: _whole_numbers(path, name, values) for name, values in columns.items()}
    present = np.unique(np.concatenate(list(numbers.values())))
    if present.tolist() == [-1, 1] and n_classes in (0, 2):
        notes.append("labels -1 and 1 read as 0 and 1")
        numbers = {name: (values + 1) // 2 for name, values in numbers.items()}
        names = () if n_classes else ("class -1", "class 1")
    elif _counts_from_one(present, next(iter(numbers.values())), n_classes):
        notes.append("labels counted from 1")
        numbers = {name: values - 1 for name, values in numbers.items()}
        names = () if n_classes else tuple(f"class {label}" for label in present.tolist())
    for name, values in numbers.items():
        if values.min() < 0 or values.max() > np.iinfo(np.int32).max:
            bad_label = values.min() if values.min() < 0 else values.max()
            hint = " Leave out images without a label." if bad_label == -1 else ""
            raise FileError(
                path, f"{path}: {name} has the label {bad_label}; labels must number the classes from 0.{hint}"
            )
    return DecodedLabels(numbers, names, tuple(notes))


def find_labeled(arrays: Mapping[str, NDArray[Any]], class_names: tuple[str, ...]) -> dict[str, NDArray[np.bool_]]:
    """Return which labels are there, array name -> (n,) bool: text may be missing, "" or NA, unless that is a class's name."""
    return {name: _is_given(values, class_names) for name, values in arrays.items()}


def _is_given(values: NDArray[Any], class_names: tuple[str, ...]) -> NDArray[np.bool_]:
    if values.dtype.kind not in "US" or values.size != len(values):
        return np.ones(len(values), np.bool_)
    texts, inverse = np.unique(decode_text(values.reshape(-1)), return_inverse=True)
    is_given = [not is_missing(text) or text in class_names for text in (str(text).strip() for text in texts)]
    return np.array(is_given, np.bool_)[inverse.reshape(-1)]


def decode_text(values: NDArray[Any]) -> NDArray[np.str_]:
    """Return text, stored as text or as bytes: in UTF-8, or else in Latin-1."""
    if values.dtype.kind == "U":
        return values.astype(np.str_)
    try:
        return np.char.decode(values, "utf-8")
    except UnicodeDecodeError:
        return np.char.decode(values, "latin-1")


def _single_column(path: Path, name: str, values: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    """Return labels as (n,), one-hot rows as the number of their column."""
    if values.dtype.kind not in "biufUS":
        raise FileError(path, f"{path}: {name} is {values.dtype}; labels must be numbers from 0, or names.")
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # of wider types
            values = values.astype(np.float64)
    if values.ndim < 2 or values.size == len(values):
        return values.reshape(-1)
    if values.ndim > 2 or values.dtype.kind in "US":
        raise FileError(path, f"{path}: {name} has shape {values.shape}; give one label per image.")
    n_classes = values.shape[1]
    is_one = values == 1
    bad_rows = np.flatnonzero((is_one.sum(axis=1) != 1) | ((values != 0) & ~is_one).any(axis=1))
    if len(bad_rows):
        if values.dtype.kind == "f" and np.allclose(np.clip(values, -2, 2).sum(axis=1), 1, atol=1e-3):
            raise FileError(
                path, f"{path}: {name} holds probabilities of {n_classes} classes; save its argmax(axis=1)."
            )
        raise FileError(
            path,
            f"{path}: {name} has {n_classes} columns, of which not exactly one is 1 in {len(bad_rows):,} of {len(values):,} "
            "rows; images with several labels, or with none, are not supported.",
        )
    if (note := f"one-hot labels of {n_classes} classes read by their column") not in notes:
        notes.append(note)
    columns: NDArray[np.int64] = is_one.argmax(axis=1)
    return columns


def _whole_numbers(path: Path, name: str, values: NDArray[Any]) -> NDArray[np.int64]:
    """Return numbers as int64; FileError where they are not whole numbers."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            kind = "NaN" if np.isnan(values).any() else "infinite values"
            raise FileError(
                path, f"{path}: {name} is {values.dtype} and contains {kind}; labels must be whole numbers from 0."
            )
        if (values != np.rint(values)).any():
            fraction = values[values != np.rint(values)][0]
            raise FileError(
                path,
                f"{path}: {name} is {values.dtype} and has the label {fraction:g}; labels must be whole numbers from 0.",
            )
        if np.abs(values).max() > np.iinfo(np.int32).max:
            raise FileError(
                path, f"{path}: {name} has the label {values.max():g}; labels must number the classes from 0."
            )
    if values.dtype.kind == "u" and values.max() > np.iinfo(np.int64).max:
        raise FileError(path, f"{path}: {name} has the label {values.max()}; labels must number the classes from 0.")
    return values.astype(np.int64)


def _counts_from_one(present: NDArray[np.int64], train: NDArray[np.int64], n_classes: int) -> bool:
    """Return whether the labels are 1 to the number of classes, and train has all of them."""
    is_range = np.array_equal(present, np.arange(1, len(present) + 1)) and np.array_equal(np.unique(train), present)
    return bool(is_range and len(present) > 1 and n_classes in (0, len(present)))


def _decode_names(
    path: Path, texts: dict[str, NDArray[np.str_]], class_names: tuple[str, ...], notes: list[str]
) -> DecodedLabels:
    """Return the numbers of labels that are names, sorted unless the file lists them."""
    present = {str(text).strip() for values in texts.values() for text in np.unique(values)}
    if any(map(is_missing, present - set(class_names))):
        missing = ", ".join(repr(text) for text in sorted(present) if is_missing(text))
        raise FileError(
            path, f"{path} has labels that are missing values ({missing}); leave out images without a label."
        )
    names = class_names or tuple(sort_class_names(present))
    if unknown := sorted(present - set(names)):
        if not all(text.isdecimal() and int(text) < len(names) for text in present):
            raise FileError(
                path,
                f"{path} has the label '{unknown[0]}', which is not in its class_names; spell both in the same way.",
            )
        names = tuple(map(str, range(len(names))))
    numbers = {
        name: np.array([names.index(str(text).strip()) for text in unique], dtype=np.int64)[inverse.reshape(-1)]
        for name, values in texts.items()
        for unique, inverse in [np.unique(values, return_inverse=True)]
    }
    return DecodedLabels(numbers, () if class_names else names, (*notes, "labels given by name"))
