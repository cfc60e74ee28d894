"""One image in the file of a microscope's software, read plane by plane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.voxel_size import VoxelSize, is_plausible_side


@dataclass(frozen=True)
class MicroscopeImage:
    """What a file says of an image, and how its planes are read."""

    name: str
    shape: tuple[int, int, int]
    """Slices, rows and columns."""
    dtype: np.dtype[Any]
    n_channels: int
    channel_names: tuple[str, ...]
    """As many as there are channels, or none."""
    n_times: int
    voxel_size: VoxelSize | None
    """Micrometers along z, y and x; None where the file doesn't tell."""
    read_plane: Callable[[int, int, int], NDArray[Any]]
    """Takes the indices of time point, channel and slice, and returns the stored values, (rows, columns)."""
    count_missing: Callable[[int, int], int] = lambda time_point, channel: 0
    """Takes the indices of time point and channel, and returns how many of its slices the file lacks, which are read as zeros."""
    fault: str = ""
    """Why the image can't be read, as a clause; empty where it can."""
    coarser: tuple[MicroscopeImage, ...] = ()
    """The same image at lower resolutions, the finest first, where the file has a pyramid that is read."""


def plausible_voxel_size(sides: Sequence[float | None], n_slices: int) -> VoxelSize | None:
    """Return sides along z, y and x in micrometers as a voxel size, or None where one is not known.

    Of a single slice, whose depth files leave out, the depth is that of a pixel's side.
    """
    z, y, x = sides
    if n_slices == 1 and not z:
        z = x
    if not (z and y and x and all(is_plausible_side(side) for side in (z, y, x))):
        return None
    return round(z, 9), round(y, 9), round(x, 9)  # meters in binary fractions end in ...9999


def unique_names(names: list[str], n: int) -> tuple[str, ...]:
    """Return the names of `n` things, or none where not every one has a name."""
    return tuple(names) if len(names) == n and all(names) else ()
