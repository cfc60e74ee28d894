"""The labels of an npz file by the position of their images, without the demands of a data set to train on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.data.class_names import class_name_fault
from nephros.data.medmnist import MEDMNIST
from nephros.data.npz.archive import open_archive
from nephros.data.npz.arrays import open_array, read_small_array
from nephros.data.npz.labels import decode_labels, decode_text, find_labeled
from nephros.data.npz.layout import find_layout
from nephros.environment import available_memory
from nephros.errors import FileError


@dataclass(frozen=True)
class ArrayLabels:
    """The labels of one array of images."""

    images: str
    """Name of the array of images."""
    split: str
    """``train``, ``val``, ``test``, or "" for an array of no split."""
    class_names: NDArray[np.object_]
    """(n,): the name of each image's class, "" where it has none."""


def read_array_labels(path: str | Path) -> list[ArrayLabels]:
    """Read the labels of all arrays of images in an npz file.

    Names are those of the file's ``class_names``, of MedMNIST where the file is called as one of its sets, of labels that are
    text, or else "class 0" and so on. One class is enough.

    Raises:
        FileError: the file is missing or damaged, or has no labels that can be told apart.
    """
    path = Path(path).expanduser().absolute()
    max_bytes = available_memory()
    with open_archive(path) as archive:
        names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
        layout = find_layout(path, names, lambda name: open_array(path, archive, name).shape)
        arrays = {
            split: read_small_array(path, archive, open_array(path, archive, name), max_bytes)
            for split, name in layout.labels.items()
        }
        n_images = {split: open_array(path, archive, name).shape[0] for split, name in layout.images.items()}
        file_names: tuple[str, ...] = ()
        if layout.class_names:
            array = read_small_array(path, archive, open_array(path, archive, layout.class_names), max_bytes)
            file_names = tuple(map(str, decode_text(array.reshape(-1)))) if array.dtype.kind in "US" else ()
    if any(values.ndim == 0 or len(values) != n_images[split] for split, values in arrays.items()):
        raise FileError(path, f"{path} doesn't have one label per image.")
    if fault := class_name_fault(file_names):
        raise FileError(path, f"{path}: {fault} in {layout.class_names}; give each class a name of its own.")
    by_name = {layout.labels[split]: values for split, values in arrays.items()}
    is_labeled = find_labeled(by_name, file_names)
    given = {name: values[is_labeled[name]] for name, values in by_name.items() if is_labeled[name].any()}
    decoded = decode_labels(path, given, file_names, len(file_names)) if given else None
    labels: list[ArrayLabels] = []
    for split, name in layout.labels.items():
        of_image = np.full(len(by_name[name]), "", object)
        if decoded is not None and name in given:
            numbers = decoded.labels[name]
            class_names = file_names or decoded.class_names or _default_names(path, int(numbers.max()))
            if int(numbers.max()) >= len(class_names):
                raise FileError(
                    path,
                    f"{path} has the label {numbers.max()}, but {len(class_names)} class names; correct one of them.",
                )
            of_image[is_labeled[name]] = np.array(class_names, object)[numbers]
        labels.append(ArrayLabels(layout.images[split], split, of_image))
    return labels


def _default_names(path: Path, max_label: int) -> tuple[str, ...]:
    info = MEDMNIST.get(path.stem.lower())
    if info is not None and max_label < len(info.class_names):
        return tuple(info.class_names)
    return tuple(f"class {label}" for label in range(max_label + 1))
