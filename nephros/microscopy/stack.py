"""One channel of a 3-D fluorescence stack on disk, read slice by slice, and what a user says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import FileError, InvalidArgument
from nephros.microscopy.voxel_size import VoxelSize

Slice = NDArray[Any]


@dataclass(frozen=True)
class StackOptions:
    """What a user says of a stack, where its file leaves it open; see `open_stack`."""

    channel: int | None = None
    image: int | None = None
    voxel_size: VoxelSize | None = None
    """Micrometers along z, y and x; None takes the file's."""
    axes: str | None = None
    min_volume: float | None = None
    """Volume below which nuclei are left out: cubic micrometers, or voxels where the voxel size is unknown."""
    labels: str | None = None
    """Instance mask, where ``{stem}`` stands for the stack's name; see `nephros.microscopy.located.find_labels`."""

    def __post_init__(self) -> None:
        if self.min_volume is not None and not 0 < self.min_volume < float("inf"):
            raise InvalidArgument("min_volume", self.min_volume, "a volume above 0, such as 30 cubic micrometers")


@dataclass(frozen=True)
class Stack:
    """One channel of a stack of slices on disk."""

    path: Path
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
