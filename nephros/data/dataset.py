"""An open data set: three splits of uint8 images with labels, class names and provenance, and statistics of its pixels."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict, cast, overload

import numpy as np
from numpy.typing import NDArray

from nephros.data.class_names import class_name_fault
from nephros.data.images.input_conversion import DEFAULT_CONVERSION, InputConversion
from nephros.errors import InvalidArgument, UnknownName
from nephros.escaping import escape_surrogates
from nephros.text_tables import html_table, pluralize

if TYPE_CHECKING:
    import torch

    from nephros.data.split_loader import SplitLoader
    from nephros.recipe import AugmentConfig

logger = logging.getLogger(__name__)
Float32Array = NDArray[np.float32]

SPLITS = ("train", "val", "test")
SPLIT_ADJECTIVES = {"train": "training", "val": "validation", "test": "test"}
"""Split -> its name in prose."""
MIN_STD = 1e-3
"""Standard deviation in place of 0, so that it can be a divisor."""
CHUNK_PIXELS = 1 << 20
"""Pixels that the statistics read at a time: few enough that numpy's copy of them stays in the processor's cache."""


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


class ProvenanceRecord(TypedDict):
    """`Provenance` as run.json, study.json and metrics.json hold it, with its title."""

    name: str
    split: str
    path: str
    sha256: str
    key: str | None
    detail: str
    title: str
    full_train_images: NotRequired[int | None]
    """Absent in records of earlier versions, as is ``n_groups``."""
    n_groups: NotRequired[int | None]


@dataclass(frozen=True)
class Provenance:
    """Where a data set comes from. Every result that is made with the data set carries it."""

    name: str
    """For people: ``TissueMNIST``, the name of the file or folder, or ``synthetic nuclei``."""
    split: Literal["official", "own", "synthetic"]
    """``official`` where the file's MD5 is the published one, ``synthetic`` for synthetic cells, else ``own``."""
    path: str
    """Absolute path of the file or folder; empty for synthetic cells."""
    sha256: str
    """SHA-256 of the file's bytes, of a folder's file names and bytes, or of synthetic cells' arrays."""
    key: str | None = None
    """Key in `nephros.data.medmnist.MEDMNIST`, such as ``tissuemnist``, or None for any other data set."""
    detail: str = ""
    """How the split was drawn and how the images were changed, where that is known."""
    full_train_images: int | None = None
    """Images that train would have if none had been left out; None where none was."""
    n_groups: int | None = None
    """Number of groups, such as patients, where they are known; splits that are drawn here keep the images of each together."""

    def __post_init__(self) -> None:
        """Make name and detail, which may hold names of files that are not text, fit for files and figures."""
        for field in ("name", "detail"):
            object.__setattr__(self, field, escape_surrogates(getattr(self, field)))

    @property
    def title(self) -> str:
        """The name in every table and figure; of a MedMNIST data set with its split, such as ``TissueMNIST, own split``."""
        if self.split == "synthetic":
            return self.name if "synthetic" in self.name else f"{self.name}, synthetic"
        return f"{self.name}, {self.split} split" if self.key else self.name

    def to_dict(self) -> ProvenanceRecord:
        """Return the fields and the title as plain JSON values."""
        return cast(ProvenanceRecord, {**asdict(self), "title": self.title})


def describe_training_subset(n_images: int, provenance: Mapping[str, Any]) -> str:
    """Return such as ``subset: 1,000 of 165,466 training images``, or "" where training used all of them.

    `provenance` is `Provenance.to_dict`; one from before it had `full_train_images` has only ``detail`` to tell.
    """
    if "full_train_images" not in provenance:
        is_subset = "train subset of " in (provenance.get("detail") or "")
        return f"subset: {n_images:,} training images" if is_subset else ""
    full_train_images = provenance["full_train_images"]
    return "" if full_train_images is None else f"subset: {n_images:,} of {full_train_images:,} training images"


@dataclass(frozen=True, repr=False)
class Dataset:
    """Three splits, the names of their classes, and their provenance."""

    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    provenance: Provenance
    task: str = "multi-class"
    """MedMNIST's term: ``multi-class``, ``binary-class`` or ``ordinal-regression``; all are trained as single-label."""
    warnings: tuple[str, ...] = ()
    """One sentence for each unusual property, such as a class that validation lacks."""
    input_conversion: InputConversion = DEFAULT_CONVERSION
    """How its files became these images; a model that is trained on them converts its inputs likewise."""
    unlabeled: NDArray[np.uint8] | None = None
    """Images of the same source without a label, in the shape of the others; None where there are none."""
    is_volumetric: bool = False
    """Whether the images are volumes, (n, h, w, d), whose slices stand where the colors of an image do."""

    def __post_init__(self) -> None:
        """Raise InvalidArgument unless each class has a name of its own."""
        if fault := class_name_fault(self.class_names):
            raise InvalidArgument(
                "class_names",
                ", ".join(map(str, self.class_names)),
                "a name of its own for each class",
                hint=f"Here {fault}.",
            )

    @classmethod
    def from_arrays(
        cls,
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
        volumes: bool = False,
    ) -> Dataset:
        """Return a data set of images in memory, split here 7:1:2 by class and, if they are given, by group.

        Args:
            images: (n, h, w), (n, h, w, 3), (n, c, h, w), or a list of images; uint8, or other numbers, which are scaled so that
                the brightest pixel of all, or 1 for floating-point pixels up to 1, becomes 255.
            labels: (n,) whole numbers, truth values or names, or one-hot rows (n, classes).
            class_names: in the order of numbers; None takes the labels' own names, or "class 0" and so on.
            groups: (n,) such as patients or stacks, whose images stay in one split; None, NaN or "" for an image of no group.
            splits: (n,) of train, val and test, where they are given; val and test are drawn where they are missing.
            size: pixels per side to which all images are resized, padded with black to keep the aspect ratio.
            seed: of the splits that are drawn here.
            white_level: pixel value that becomes 255 in images of more than 8 bits.
            channel: index of the channel that is the image, in images with several.
            name: of the data set, in results.
            volumes: whether the images are volumes, (n, d, h, w) uint8, as `nephros.prepare` crops them with `volumes`.

        Raises InvalidArgument, which names the argument, for what is not an image or a label, or too little to split.
        """
        from nephros.data.array_dataset import open_arrays

        return open_arrays(
            images,
            labels,
            class_names=class_names,
            groups=groups,
            splits=splits,
            size=size,
            seed=seed,
            white_level=white_level,
            channel=channel,
            name=name,
            volumes=volumes,
        )

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(split):,} {name}" for name, split in self.splits())
        return f"<Dataset {self.provenance.title}: {self.n_classes} classes, {counts} images>"

    def _repr_html_(self) -> str:
        """Return the images per class and split as a table, for notebooks."""
        counts = [split.class_counts(self.n_classes) for _, split in self.splits()]
        rows = [[name, *(f"{n[label]:,}" for n in counts)] for label, name in enumerate(self.class_names)]
        rows.append(["all", *(f"{len(split):,}" for _, split in self.splits())])
        size = format_size(*self.image_size, self.channels, self.depth)
        notes = [note for note in (self.provenance.detail, *self.warnings) if note]
        return html_table(f"{self.provenance.title}: {size}", ("class", *SPLITS), rows, notes)

    @property
    def n_classes(self) -> int:
        """The number of classes, including those that a split lacks."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """1 for grayscale images and for volumes, 3 for RGB."""
        return 1 if self.train.images.ndim == 3 or self.is_volumetric else int(self.train.images.shape[3])

    @property
    def depth(self) -> int | None:
        """The number of slices of a volume; None for images."""
        return int(self.train.images.shape[3]) if self.is_volumetric else None

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.train.images.shape[1]), int(self.train.images.shape[2])

    def split(self, name: str) -> Split:
        """Return the split ``train``, ``val`` or ``test``; raise UnknownName for any other name."""
        if name not in SPLITS:
            raise UnknownName("split", name, SPLITS, hint=f"Choose from {', '.join(SPLITS)}.")
        return getattr(self, name)  # type: ignore[no-any-return]

    def splits(self) -> Iterator[tuple[str, Split]]:
        """Yield (name, split) for train, val and test."""
        for name in SPLITS:
            yield name, self.split(name)


def format_size(height: int, width: int, channels: int, depth: int | None = None) -> str:
    """Return such as ``28x28 pixels, 1 channel`` or, for volumes, ``7 slices of 32x32 pixels``."""
    pixels = f"{height}x{width} pixels"
    if depth is not None:
        return f"{pluralize(depth, 'slice')} of {pixels}"
    return f"{pixels}, {pluralize(channels, 'channel')}"


def log_notes(dataset: Dataset) -> None:
    """Log how the data was split and read, and warn of each unusual property."""
    if dataset.provenance.detail:
        logger.info("%s: %s", dataset.provenance.name, dataset.provenance.detail)
    for warning in dataset.warnings:
        logger.warning("%s", warning)


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


def channel_statistics(images: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of each channel's pixels, divided by 255.

    `images` is (n, h, w) or (n, h, w, c) uint8. A standard deviation of 0 is returned as 1e-3, so that it can be a divisor.
    """
    mean, mean_square = _channel_moments(images)
    return mean.tolist(), np.maximum(np.sqrt(np.maximum(mean_square - mean**2, 0)), MIN_STD).tolist()


def pixel_statistics(images: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the mean and standard deviation of all pixels of all channels together, divided by 255.

    `images` is (n, h, w) or (n, h, w, c) uint8.
    """
    mean, mean_square = (float(moment.mean()) for moment in _channel_moments(images))
    return mean, float(np.sqrt(max(mean_square - mean**2, 0.0)))


def _channel_moments(images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the means of x and of x squared of each channel, (c,) float64 both, of pixels divided by 255.

    They are exact: pixels are counted by value, a chunk at a time, so that memory-mapped images will do.
    """
    channels = 1 if images.ndim == 3 else images.shape[3]
    counts = np.zeros((channels, 256), dtype=np.int64)
    chunk_size = max(1, CHUNK_PIXELS // int(np.prod(images.shape[1:])))
    for start in range(0, len(images), chunk_size):
        chunk = images[start : start + chunk_size].reshape(-1, channels)
        for channel in range(channels):
            counts[channel] += _value_counts(np.ascontiguousarray(chunk[:, channel]))
    frequencies = counts / counts.sum(axis=1, keepdims=True)
    values = np.arange(256) / 255
    return frequencies @ values, frequencies @ values**2


def _value_counts(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how many of the pixels (n,) have each value, (256,): counted in pairs, which takes half as long."""
    n_paired = len(pixels) // 2 * 2
    pairs = np.bincount(pixels[:n_paired].view(np.uint16), minlength=1 << 16).reshape(256, 256)
    counts: NDArray[np.int64] = pairs.sum(axis=0) + pairs.sum(axis=1)
    return counts + np.bincount(pixels[n_paired:], minlength=256)
