"""One channel of a 3-D fluorescence stack on disk, read slice by slice, and what a user says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import FileError, InvalidArgument, UnknownName
from nephros.microscopy.location import StackLocation
from nephros.microscopy.pyramid import downscaling
from nephros.microscopy.voxel_size import VoxelSize

Slice = NDArray[Any]

MAX_SLICE_PIXELS = 1 << 29
"""Pixels of the largest slice, such as 23,170 x 23,170. Memory holds two slices at a time, of the stack and of its mask.

The type of the pixels doesn't count: ids often have 32 or 64 bits, and a stack that is accepted would have no mask that is.
"""


SEGMENTERS = ("rough", "cellpose", "stardist")
"""Names of what segments a stack without a mask; see `nephros.microscopy.segmenters`."""
_PACKAGES = {"cellpose": ("cellpose",), "stardist": ("stardist", "csbdeep", "tensorflow")}


def installed_segmenters() -> list[str]:
    """Return the names of the segmenters whose packages are installed; they are not imported, which takes seconds."""
    return [name for name in SEGMENTERS if all(find_spec(package) for package in _PACKAGES.get(name, ()))]


@dataclass(frozen=True)
class StackOptions:
    """What a user says of a stack, where its file leaves it open; see `open_stack`."""

    channel: int | str | None = None
    """Index or name."""
    image: int | str | None = None
    """Index or name, in a file that holds several."""
    voxel_size: VoxelSize | None = None
    """Micrometers along z, y and x, at the finest level of a pyramid; None takes the file's."""
    axes: str | None = None
    min_volume: float | None = None
    """Volume below which nuclei are left out: cubic micrometers, or voxels where the voxel size is unknown."""
    mask: str | None = None
    """Instance mask, where ``{stem}`` stands for the stack's name; see `nephros.microscopy.located.find_mask`."""
    level: int | str | None = None
    """Level of an image pyramid; ``auto`` is the coarsest that is at least as fine as TRAINING_VOXEL_SIZE, None the finest."""
    time_point: int | None = None
    """Index in a time series."""
    stitch_threshold: float | None = None
    """Overlap from which objects of a mask's slices are joined; None takes the mask's ids for those of the whole stack."""
    segment: str | None = None
    """Segmenter of a stack without a mask; see `nephros.microscopy.segmenters`."""

    def __post_init__(self) -> None:
        if self.segment is not None and self.segment not in SEGMENTERS:
            raise UnknownName(
                "segment", self.segment, SEGMENTERS, kind="segmenter", hint=f"There are {', '.join(SEGMENTERS)}."
            )
        if self.segment is not None and self.mask is not None:
            raise InvalidArgument("segment", self.segment, "left out where a `mask` is given")
        if self.stitch_threshold is not None and not 0 < self.stitch_threshold <= 1:
            raise InvalidArgument("stitch_threshold", self.stitch_threshold, "above 0 and at most 1, such as 0.25")
        if self.min_volume is not None and not 0 < self.min_volume < float("inf"):
            raise InvalidArgument("min_volume", self.min_volume, "a volume above 0, such as 30 cubic micrometers")

    @property
    def tells_of_one_stack(self) -> bool:
        """Whether a folder of images is one stack by what is said, which holds for stacks only, and for no image of a cell.

        The channel may be a color plane of such images, and where the mask is a pattern, each image may be a stack of its own.
        """
        return not (self.mask is not None and "{" in self.mask) and bool(self.only_for_stacks)

    @property
    def only_for_stacks(self) -> list[str]:
        """Names of what is said and holds for stacks only: all but the channel, which may be a color plane of an image."""
        return [
            field.name for field in fields(self) if field.name != "channel" and getattr(self, field.name) is not None
        ]

    def check_single(self, name: str, axes: str) -> None:
        """Raise InvalidArgument where a user chooses what a file of a single image, time point and channel doesn't have.

        Args:
            name: of the file.
            axes: the only order of dimensions that it has.
        """
        for parameter in ("channel", "image", "time_point"):
            if (choice := getattr(self, parameter)) not in (None, 0, "0"):
                raise InvalidArgument(parameter, choice, f"0 for {name}")
        if self.axes not in (None, axes):
            raise InvalidArgument("axes", self.axes, f"{axes} for {name}")


@dataclass(frozen=True)
class Stack:
    """One channel of a stack of slices on disk."""

    path: StackLocation
    shape: tuple[int, int, int]
    """Slices, rows and columns."""
    dtype: np.dtype[Any]
    channel: int
    """Index of the channel that is read."""
    n_channels: int
    voxel_size: VoxelSize | None
    """Micrometers along z, y and x, or None where the file doesn't tell."""
    read_slices: Callable[[], Iterator[Slice]]
    image: int = 0
    """Index of the image that is read, in a file that holds several."""
    notes: tuple[str, ...] = ()
    """What else the file holds, and what is odd about it; one sentence each."""
    level: int = 0
    """Level of the image pyramid that is read; 0 is the finest."""
    time_point: int = 0
    """Index in a time series."""
    level_shapes: tuple[tuple[int, int, int], ...] = ()
    """Slices, rows and columns at each level of an image pyramid."""
    label_keys: tuple[str, ...] = ()
    """Places of label images in the same Zarr store that may be masks of this image, such as ``labels/nuclei``."""

    implausible_size: str = ""
    """What the file states of its voxels if that can't be used, and why, such as ``voxels of 1 x 0.5 x 0.5 without a unit``."""

    @property
    def level_step(self) -> tuple[float, float, float]:
        """Voxels of the finest pyramid level per voxel of the one that is read, along z, y and x."""
        return downscaling(self.level_shapes[0], self.shape) if self.level_shapes else (1.0, 1.0, 1.0)

    def slices(self) -> Iterator[Slice]:
        """Yield the slices from first to last, (rows, columns) each; raise FileError where bytes are missing or damaged."""
        return self.read_slices()


def read_raw_planes(
    path: Path, offset: int, shape: tuple[int, int, int], dtype: np.dtype[Any], planes: Iterator[int] | range
) -> Iterator[Slice]:
    """Read planes that are stored one after the other; not memory-mapped, since mapped pages count as used memory."""
    plane_pixels = shape[1] * shape[2]
    with path.open("rb") as file:
        for plane in planes:
            file.seek(offset + plane * plane_pixels * dtype.itemsize)
            values = np.fromfile(file, dtype, plane_pixels)
            if len(values) < plane_pixels:
                raise FileError(path, f"{path} is cut short; copy it again from its source.")
            yield values.reshape(shape[1:]).astype(dtype.newbyteorder("="), copy=False)
