"""An open data set: three splits of uint8 images with labels, class names and provenance."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.class_names import class_name_fault
from nephros.data.images.input_conversion import DEFAULT_CONVERSION, InputConversion
from nephros.data.provenance import Provenance
from nephros.data.split import SPLITS, Split
from nephros.errors import InvalidArgument, UnknownName
from nephros.text_tables import html_table, pluralize

logger = logging.getLogger(__name__)


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
    unlabeled_groups: NDArray[np.str_] | None = None
    """(m,) group of each of these, as `Split.groups` names it, "" where it is unknown; None where that is so of all."""
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
        draw_test: bool = True,
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
            draw_test: False leaves test empty, unless `splits` has it, and splits the rest 9:1.

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
            draw_test=draw_test,
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
