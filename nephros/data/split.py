"""One split of a data set: uint8 images and their labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from nephros.data.split_loader import SplitLoader
    from nephros.recipe import AugmentConfig

SPLITS = ("train", "val", "test")
SPLIT_ADJECTIVES = {"train": "training", "val": "validation", "test": "test"}
"""Split -> its name in prose."""


@dataclass(frozen=True, repr=False)
class Split:
    """Images and labels of one split, in file order.

    ``split[i]`` is an image (c, h, w) uint8 and its label, an int, so that a split is a map-style data set for
    `torch.utils.data.DataLoader`; a slice, mask or array of indices gives the Split of some images. `dataloader` is faster.
    """

    images: NDArray[np.uint8]
    """(n, h, w) grayscale, (n, h, w, 3) RGB, or (n, h, w, d) volumes with their slices last, uint8; may be memory-mapped."""
    labels: NDArray[np.int64]
    """(n,) int64 from 0 to the number of classes minus 1."""
    groups: NDArray[np.str_] | None = None
    """(n,) group of each image, such as its patient or slide; None where groups are unknown."""
    names: NDArray[np.str_] | None = None
    """(n,) name of each image in its source, its path in a folder or such as ``images[12]``; None where the place in the split
    says as much."""

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, rows: int) -> tuple[NDArray[np.uint8], int]: ...
    @overload
    def __getitem__(self, rows: slice | Sequence[int] | NDArray[Any]) -> Split: ...

    def __getitem__(self, rows: int | slice | Sequence[int] | NDArray[Any]) -> tuple[NDArray[np.uint8], int] | Split:
        if np.ndim(self.labels[rows]):
            groups, names = (None if values is None else values[rows] for values in (self.groups, self.names))
            return Split(self.images[rows], self.labels[rows], groups, names)
        image = self.images[rows]
        # A copy, since torch needs writable memory, and that of a memory-mapped file is not.
        return np.array(image[None] if image.ndim == 2 else image.transpose(2, 0, 1)), int(self.labels[rows])

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], int]]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<Split: {len(self):,} images of {'x'.join(map(str, self.images.shape[1:]))}>"

    def dataloader(
        self,
        batch_size: int,
        *,
        augment: bool | AugmentConfig = False,
        shuffle: bool | None = None,
        drop_last: bool = False,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> SplitLoader:
        """Return an iterable of batches: images (b, c, h, w) uint8 in 0..255, as `nephros.create_model` takes them, and labels.

        Args:
            batch_size: images per batch.
            augment: True for random flips, quarter-turns and shifts of up to two pixels, or an AugmentConfig of a recipe; after
                rotation, images are float32 in 0..255.
            shuffle: whether each pass has an order of its own; None shuffles where `augment` is given.
            drop_last: leave out the last batch where it is smaller.
            seed: of order and augmentation.
            device: auto, cpu, cuda or a torch device.

        Raises InvalidArgument for any other value.
        """
        from nephros.data.split_loader import SplitLoader

        return SplitLoader(
            self, batch_size, augment=augment, shuffle=shuffle, drop_last=drop_last, seed=seed, device=device
        )

    def class_counts(self, n_classes: int) -> NDArray[np.int64]:
        """Return the number of images per class, (n_classes,) int64."""
        return np.bincount(self.labels, minlength=n_classes)


def missing_class_warnings(split: str, labels: NDArray[np.int64], class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return a warning for each class that is absent from the labels of the split called `split`."""
    missing_labels = np.flatnonzero(np.bincount(labels, minlength=len(class_names)) == 0)
    return tuple(
        f"{split} has no image of {class_names[c]}, so its metrics there are undefined." for c in missing_labels
    )


def images_sha256(images: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of a split's images in their order, which identifies results on the same images."""
    digest = hashlib.sha256(str(images.shape).encode())
    for start in range(0, len(images), 4096):
        digest.update(np.ascontiguousarray(images[start : start + 4096]).data)
    return digest.hexdigest()
