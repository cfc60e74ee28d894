"""MedMNIST's data sets, twelve of images and six of volumes: classes, sizes, licenses, file names, MD5 sums and addresses.

The figures in medmnist.json are those that the ``medmnist`` package publishes for MedMNIST v3, whose files are Zenodo record
10519652. This module needs only the standard library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nephros.errors import InvalidArgument, UnknownName, did_you_mean

_PUBLISHED: dict[str, Any] = json.loads(Path(__file__).with_name("medmnist.json").read_text(encoding="utf-8"))

IMAGE_SIZES: tuple[int, ...] = tuple(_PUBLISHED["image_sizes"])
"""Pixels per side in which every data set of images is published; volumes are in the first two."""

ZENODO_RECORD: str = _PUBLISHED["zenodo_record"]
"""The Zenodo record that holds every file."""


@dataclass(frozen=True)
class MedMNISTInfo:
    """What one data set contains and where its files are."""

    key: str
    """The name in lower case, which is also the stem of the file names: ``tissuemnist``."""
    name: str
    """The name for people: ``TissueMNIST``."""
    subject: str
    """What the images show, in one phrase."""
    task: str
    """MedMNIST's term: ``multi-class``, ``binary-class``, ``ordinal-regression`` or ``multi-label, binary-class``."""
    class_names: tuple[str, ...]
    """The classes in label order."""
    channels: int
    """1 for grayscale, 3 for RGB."""
    split_sizes: tuple[int, int, int]
    """Images in train, val and test; the same at every size."""
    license: str
    """License of the images; ``CC BY-NC 4.0`` forbids commercial use."""
    md5: Mapping[int, str]
    """Pixels per side -> MD5 of that size's file, in hexadecimal."""
    is_volumetric: bool = False
    """Whether it holds volumes, with as many slices as pixels per side."""

    @property
    def supported(self) -> bool:
        """False where an image may have several labels: nephros trains single-label classifiers only."""
        return not self.task.startswith("multi-label")

    def filename(self, size: int = 28) -> str:
        """Return the published file name: ``tissuemnist.npz`` at 28 pixels, ``tissuemnist_64.npz`` at 64.

        Raises:
            InvalidArgument: `size` is not published.
        """
        if size not in self.md5:
            *smaller, largest = self.md5
            sizes = f"{', '.join(map(str, smaller))} or {largest}"
            raise InvalidArgument("size", size, f"{sizes}, the sizes in which {self.name} is published")
        return f"{self.key}.npz" if size == 28 else f"{self.key}_{size}.npz"

    def urls(self, size: int = 28) -> tuple[str, ...]:
        """Return the download addresses in the order to try; both are Zenodo's, the second through its API.

        Raises:
            InvalidArgument: `size` is not published.
        """
        filename = self.filename(size)
        return (
            f"https://zenodo.org/records/{ZENODO_RECORD}/files/{filename}?download=1",
            f"https://zenodo.org/api/records/{ZENODO_RECORD}/files/{filename}/content",
        )


def _parse_entry(key: str, entry: dict[str, Any]) -> MedMNISTInfo:
    sizes = entry["split_sizes"]
    return MedMNISTInfo(
        key=key,
        name=entry["name"],
        subject=entry["subject"],
        task=entry["task"],
        class_names=tuple(entry["class_names"]),
        channels=entry["channels"],
        split_sizes=(sizes["train"], sizes["val"], sizes["test"]),
        license=entry["license"],
        md5={int(size): md5 for size, md5 in entry["md5"].items()},
        is_volumetric=entry.get("volumes", False),
    )


MEDMNIST: dict[str, MedMNISTInfo] = {key: _parse_entry(key, entry) for key, entry in _PUBLISHED["datasets"].items()}
"""Key -> data set, in MedMNIST's own order."""


def medmnist_of_file(name: str) -> MedMNISTInfo | None:
    """Return the data set that an npz file is named for, such as ``tissuemnist_64.npz``; None for another name."""
    return MEDMNIST.get(re.sub(r"_\d+$", "", Path(name).stem).lower())


def is_cube(shape: tuple[int, ...]) -> bool:
    """Return whether an array holds volumes with as many slices as rows and columns, as MedMNIST's do."""
    return len(shape) == 4 and len(set(shape[1:])) == 1


def list_datasets() -> list[str]:
    """Return the names that `nephros.load_dataset` and `nephros.download` take, without sets of several labels per image."""
    return [key for key, info in MEDMNIST.items() if info.supported]


def get_info(key: str) -> MedMNISTInfo:
    """Return the data set with the name `key`, in upper or lower case.

    Raises:
        UnknownName: MedMNIST has no such data set.
    """
    info = MEDMNIST.get(key.lower())
    if info is None:
        hint = "" if did_you_mean(key.lower(), MEDMNIST) else f"Choose from {', '.join(MEDMNIST)}."
        raise UnknownName("key", key.lower(), MEDMNIST, kind="MedMNIST data set", hint=hint)
    return info
