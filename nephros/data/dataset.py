"""What a data set is once it is open: three splits of uint8 images with labels, class names and provenance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val", "test")
SPLIT_ADJECTIVES = {"train": "training", "val": "validation", "test": "test"}
"""Split -> its name in prose."""


def images_sha256(images: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of a split's images in their order, by which results on the same images are known."""
    digest = hashlib.sha256(str(images.shape).encode())
    for start in range(0, len(images), 4096):
        digest.update(np.ascontiguousarray(images[start : start + 4096]).data)
    return digest.hexdigest()


def missing_class_warnings(split: str, labels: NDArray[np.int64], class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return a warning for each class that a split's labels lack."""
    missing_labels = np.flatnonzero(np.bincount(labels, minlength=len(class_names)) == 0)
    return tuple(
        f"{split} has no image of {class_names[c]}, so its figures there are undefined." for c in missing_labels
    )


@dataclass(frozen=True)
class Split:
    """Images and labels in file order."""

    images: NDArray[np.uint8]
    """(n, h, w) grey or (n, h, w, 3) colour, uint8; may be memory-mapped."""
    labels: NDArray[np.int64]
    """(n,) int64, each in 0..classes-1."""

    def __len__(self) -> int:
        return len(self.labels)

    def class_counts(self, n_classes: int) -> NDArray[np.int64]:
        """Return the number of images of each class, (classes,) int64."""
        return np.bincount(self.labels, minlength=n_classes)


@dataclass(frozen=True)
class Provenance:
    """Where a data set came from; carried by every result made with it."""

    name: str
    """For people: ``TissueMNIST``, or the file's or folder's own name."""
    split: Literal["official", "own", "synthetic"]
    """``official`` only when the file's MD5 is the published one; ``own`` for any other; ``synthetic`` for made-up cells."""
    path: str
    """Absolute path of the file or folder; empty for synthetic cells."""
    sha256: str
    """Of the file's bytes; of names and bytes for a folder; of the arrays for synthetic cells."""
    key: str | None = None
    """The catalogue's key, such as ``tissuemnist``, where the set is one of its sets."""
    detail: str = ""
    """How the split was drawn and what was changed, where that is known."""

    @property
    def title(self) -> str:
        """The name that every table and figure shows, such as ``TissueMNIST, own split``."""
        return f"{self.name}, synthetic" if self.split == "synthetic" else f"{self.name}, {self.split} split"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the title as plain JSON values."""
        return {**asdict(self), "title": self.title}


@dataclass(frozen=True)
class Dataset:
    """Three splits, the names of the classes and the provenance."""

    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    provenance: Provenance
    task: str = "multi-class"
    """MedMNIST's word: ``multi-class``, ``binary-class`` or ``ordinal-regression``; all are trained as single-label."""
    warnings: tuple[str, ...] = ()
    """Plain sentences on what is unusual, such as a class that validation lacks."""

    @property
    def n_classes(self) -> int:
        """Number of classes, also those that a split lacks."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return 1 if self.train.images.ndim == 3 else int(self.train.images.shape[3])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.train.images.shape[1]), int(self.train.images.shape[2])

    def split(self, name: str) -> Split:
        """Return the split called ``train``, ``val`` or ``test``."""
        if name not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {name!r}")
        return getattr(self, name)  # type: ignore[no-any-return]

    def splits(self) -> Iterator[tuple[str, Split]]:
        """Yield (name, split) for train, val and test."""
        for name in SPLITS:
            yield name, self.split(name)
