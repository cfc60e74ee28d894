"""A data set from arrays of images and labels, such as a notebook holds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.assembly import assemble, divide
from nephros.data.dataset import Dataset
from nephros.data.folders.images import ConvertedImages, convert_images
from nephros.data.images.array_images import ArrayImages, read_array_images
from nephros.data.images.input_conversion import DEFAULT_CONVERSION, CellShape, InputConversion, select_planes
from nephros.data.npz.labels import decode_labels
from nephros.data.provenance import SPLIT_DIGEST, Provenance
from nephros.data.split import SPLITS, Split, images_sha256
from nephros.data.splitting import assign_splits
from nephros.data.volumes import read_volumes
from nephros.errors import FileError, InvalidArgument, UnknownName

_ROOT = Path("images")
"""Stands for the arrays where a message names a file."""


def open_arrays(
    images: Any,
    labels: Any,
    *,
    class_names: Sequence[str] | None = None,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    splits: Sequence[str] | NDArray[Any] | None = None,
    size: int | None = None,
    seed: int = 0,
    white_level: float | None = None,
    channel: int | None = None,
    name: str = "arrays",
    shape: CellShape | None = None,
    volumes: bool = False,
    draw_test: bool = True,
) -> Dataset:
    """Return a data set of images in memory; `Dataset.from_arrays` explains the arguments.

    `shape` (channels, height, width) is that of a network that needs it, and wins over `size`.
    """
    if size is not None and size < 1:
        raise InvalidArgument("size", size, "a number of pixels of at least 1")
    conversion = DEFAULT_CONVERSION.override(white_level, channel)
    array_images = (
        ArrayImages((_read_volumes(images, size, channel, white_level),)) if volumes else read_array_images(images)
    )
    numbers, names, label_notes = read_labels(labels, len(array_images), class_names)
    if volumes:
        cells = ConvertedImages(array_images.blocks[0], (), (), conversion)
    else:
        cells = array_cells(array_images, size, conversion, shape)
    group_names = None if groups is None else _group_names(groups, len(numbers))
    given = None if splits is None else _given_splits(splits, len(numbers))
    try:
        assignment = assign_splits(
            _ROOT, numbers, names, seed, given=given, given_by="`splits`", groups=group_names, group_source="`groups`",
            draw_test=draw_test,
        )  # fmt: skip
    except FileError as error:
        problem = str(error).removeprefix(f"{_ROOT} has ").removesuffix(".")
        if group_names is not None:
            n_groups = f"{len(set(group_names)):,} groups"
            raise InvalidArgument("groups", n_groups, "enough to split", hint=f"There are {problem}.") from error
        counts = ", ".join(f"{count:,} of {name}" for name, count in zip(names, np.bincount(numbers), strict=True))
        raise InvalidArgument("labels", counts, "enough images per class", hint=f"There are {problem}.") from error
    digest = hashlib.sha256(images_sha256(cells.images).encode() + numbers.tobytes()).hexdigest()
    # The rule doesn't say which image is in which split or group where the caller does.
    division = hashlib.sha256(assignment.index.tobytes() + repr(group_names).encode()).hexdigest()
    rule = f"{assignment.rule.replace('`', '')}; {SPLIT_DIGEST}{division[:16]}"
    detail = "; ".join([rule, *label_notes, *array_images.notes, *cells.details])
    provenance = Provenance(name, "own", "", digest, None, detail, n_groups=assignment.n_groups)
    warnings = (*cells.warnings, *assignment.warnings)
    image_names = np.array([f"images[{i}]" for i in range(len(numbers))])
    divided = divide(cells.images, numbers, assignment, image_names)
    return assemble(divided, names, provenance, cells.conversion, warnings, is_volumetric=volumes)


def _read_volumes(images: Any, size: int | None, channel: int | None, white_level: float | None) -> NDArray[np.uint8]:
    for parameter, value in (("size", size), ("channel", channel)):
        if value is not None:
            raise InvalidArgument(parameter, value, "left out for volumes, which are taken as they are")
    return read_volumes(images, "images", white_level)


def read_labels(
    labels: Any, n_images: int, class_names: Sequence[str] | None = None
) -> tuple[NDArray[np.int64], tuple[str, ...], tuple[str, ...]]:
    """Return labels as (n,) int64 from 0, the classes' names by label, and how the labels were read.

    Args:
        labels: (n,), (n, 1) or one-hot (n, classes): whole numbers, truth values or names.
        n_images: that they must be as many as.
        class_names: of the classes, in the order of numbers; None takes the labels' own names, or "class 0" and so on.

    Raises:
        InvalidArgument: labels are missing, unclear, of one class, or have a class that has no name.
    """
    expected = "one label per image: whole numbers, names or one-hot rows"
    values = np.asarray(labels)
    if values.dtype.kind == "O" and all(isinstance(value, str) for value in values.ravel()):
        values = values.astype(np.str_)
    described = f"an array of {values.dtype} of shape {values.shape}"
    if values.ndim == 0 or len(values) != n_images or not n_images:
        raise InvalidArgument("labels", described, expected, hint=f"There are {n_images:,} images.")
    names = tuple(map(str, class_names or ()))
    try:
        decoded = decode_labels(Path("labels"), {"labels": values}, names, len(names))
    except FileError as error:
        problem = str(error).removeprefix("labels: ")
        raise InvalidArgument("labels", described, expected, hint=f"Here {problem}") from error
    numbers, notes = decoded.labels["labels"], decoded.notes
    names = names or decoded.class_names
    present = np.unique(numbers)
    if not names and len(present) <= present[-1]:  # numbers of classes that don't count from 0
        names, numbers = tuple(f"class {label}" for label in present.tolist()), np.searchsorted(present, numbers)
    names = names or tuple(f"class {label}" for label in range(int(present[-1]) + 1))
    if int(numbers.max()) >= len(names):
        raise InvalidArgument("class_names", ", ".join(names), f"names of all classes, 0 to {numbers.max()}")
    if len(present) < 2:
        raise InvalidArgument("labels", f"1 class, {names[numbers[0]]}", "of at least two classes")
    return numbers.astype(np.int64), names, notes


def array_cells(
    array_images: ArrayImages, size: int | None, conversion: InputConversion, shape: CellShape | None = None
) -> ConvertedImages:
    """Return images as cells of one shape; InvalidArgument, naming the image, where one can't be a cell."""
    blocks = array_images.blocks
    if shape is None and size is None and len(blocks) == 1 and blocks[0].ndim == 3 and blocks[0].dtype == np.uint8:
        return ConvertedImages(blocks[0], (), (), conversion)
    decoded = []
    for i, image in enumerate(array_images):
        name = f"images[{i}]"
        try:
            decoded.append(select_planes(name, image, shape[0] if shape else 3, conversion.channel))
        except FileError as error:
            raise _image_error(name, image.pixels, error) from error
        pixels, first = decoded[-1].pixels, decoded[0].pixels
        if size is None and shape is None and pixels.shape[:2] != first.shape[:2]:
            hint = f"images[0] is {first.shape[0]}x{first.shape[1]}; give `size` to resize all images."
            raise InvalidArgument(name, f"{pixels.shape[0]}x{pixels.shape[1]} pixels", "of one size", hint=hint)
    names = [f"images[{i}]" for i in range(len(decoded))]
    try:
        return convert_images(_ROOT, names, decoded, decoded.__getitem__, size=size, conversion=conversion, shape=shape)
    except FileError as error:
        raise _image_error("images", decoded[0].pixels, error) from error


def resize_dataset(dataset: Dataset, size: tuple[int, int]) -> Dataset:
    """Return a data set with images of (height, width) pixels, resized as its conversion says; FileError for a size too small."""
    if dataset.image_size == size:
        return dataset
    shape = (dataset.channels, *size)
    conversion = dataset.input_conversion
    train = array_cells(ArrayImages((dataset.train.images,)), None, conversion, shape)

    def resized(split: Split) -> Split:
        if not len(split):  # such as a test split that was not drawn
            return replace(split, images=train.images[:0])
        return replace(split, images=array_cells(ArrayImages((split.images,)), None, conversion, shape).images)

    unlabeled = dataset.unlabeled
    if unlabeled is not None:
        unlabeled = array_cells(ArrayImages((unlabeled,)), None, conversion, shape).images
    detail = "; ".join(part for part in (dataset.provenance.detail, *train.details) if part)
    return replace(
        dataset,
        train=replace(dataset.train, images=train.images),
        val=resized(dataset.val),
        test=resized(dataset.test),
        unlabeled=unlabeled,
        provenance=replace(dataset.provenance, detail=detail),
    )


def _image_error(name: str, pixels: NDArray[Any], error: FileError) -> InvalidArgument:
    problem = str(error).removeprefix(f"{name} ").replace(" and save it again", "")
    return InvalidArgument(name, f"an array of shape {pixels.shape}", "an image of a cell", hint=f"It {problem}")


def _group_names(groups: Any, n_images: int) -> list[str | None]:
    """Return the group of each image as text; None where it has none."""
    values = np.asarray(groups, dtype=object)
    if values.shape != (n_images,):
        shape = f"an array of shape {values.shape}"
        raise InvalidArgument(
            "groups", shape, f"the group of each of {n_images:,} images, such as its patient or stack"
        )
    return [None if value is None or value != value or value == "" else str(value) for value in values.tolist()]


def _given_splits(splits: Any, n_images: int) -> NDArray[np.int64]:
    names = np.asarray(splits).astype(str)
    if names.shape != (n_images,):
        expected = f"train, val or test for each of {n_images:,} images"
        raise InvalidArgument("splits", f"an array of shape {names.shape}", expected)
    if unknown := sorted(set(names.tolist()) - set(SPLITS)):
        raise UnknownName("splits", unknown[0], SPLITS, kind="split", hint=f"Choose from {', '.join(SPLITS)}.")
    if SPLITS[0] not in names:
        raise InvalidArgument("splits", ", ".join(sorted(set(names.tolist()))), "such that some images are in train")
    return np.array([SPLITS.index(name) for name in names.tolist()], dtype=np.int64)
