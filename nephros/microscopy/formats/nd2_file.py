"""Nikon's ND2 files, read by `nd2`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.formats.image import MicroscopeImage, plausible_voxel_size, unique_names

_FRAME_AXES = ("C", "Y", "X", "S")


@contextlib.contextmanager
def open_nd2(path: Path) -> Iterator[list[MicroscopeImage]]:
    """Yield the images of a file, one per stage position."""
    import nd2

    # nd2 maps a file that it opens itself, for which a large one needs as much address space; of an open one it reads parts.
    with open(path, "rb") as opened, nd2.ND2File(opened) as file:
        yield [_image(file, path, index) for index in range(file.sizes.get("P", 1))]


def _image(file: Any, path: Path, position: int) -> MicroscopeImage:
    sizes = dict(file.sizes)
    loops = [axis for axis in sizes if axis not in _FRAME_AXES]
    n_channels, n_slices = sizes.get("C", 1), sizes.get("Z", 1)
    height, width = sizes.get("Y", 1), sizes.get("X", 1)
    n_bytes = height * (file.attributes.widthBytes or width * n_channels * file.dtype.itemsize)
    n_file_bytes = path.stat().st_size
    offsets = file._rdr._frame_offsets  # of a frame that is not there nd2 returns zeros, and nothing public tells
    is_compressed = file.attributes.compressionType is not None

    def frame(time_point: int, z: int) -> int:
        chosen = {"T": time_point, "P": position, "Z": z}
        return (
            int(np.ravel_multi_index([chosen[axis] for axis in loops], [sizes[axis] for axis in loops])) if loops else 0
        )

    def is_missing(index: int) -> bool:
        offset = offsets.get(index)
        return offset is None or offset + (0 if is_compressed else n_bytes) > n_file_bytes

    def read_plane(time_point: int, channel: int, z: int) -> NDArray[Any]:
        index = frame(time_point, z)
        if is_missing(index):
            return np.zeros((height, width), file.dtype)
        planes = np.asarray(file.read_frame(index)).reshape(n_channels, height, width)
        return np.array(planes[channel])  # a view would be of the mapped file, which ends with it

    metadata = _metadata(file)
    volume = metadata.channels[0].volume if metadata and metadata.channels else None
    other = [axis for axis in loops if axis not in "TPZ"]
    fault = ""
    if sizes.get("S", 1) > 1:
        fault = "it is in color"
    elif other:
        fault = f"it has a dimension {other[0]} of {sizes[other[0]]:,} beside time, position, channel and space"
    elif math.prod(sizes[axis] for axis in loops) > 1_000_000_000:
        fault = "it claims more than a billion slices"
    names = [channel.channel.name or "" for channel in (metadata.channels or [])] if metadata else []
    positions = _position_names(file)
    return MicroscopeImage(
        positions[position] if position < len(positions) else "",
        (n_slices, height, width),
        file.dtype,
        n_channels,
        unique_names(names, n_channels),
        sizes.get("T", 1),
        plausible_voxel_size(_sides(volume), n_slices),
        read_plane,
        lambda time_point, channel: sum(is_missing(frame(time_point, z)) for z in range(n_slices)),
        fault,
    )


def _position_names(file: Any) -> list[str]:
    for loop in file.experiment:
        if loop.type == "XYPosLoop":
            return [point.name or "" for point in loop.parameters.points]
    return []


def _metadata(file: Any) -> Any:
    """Return the names and sizes that a file states, or None where nd2 can't make them out, which its pixels don't need."""
    try:
        return file.metadata
    except Exception:
        return None


def _sides(volume: Any) -> list[float | None]:
    """Return a voxel's sides along z, y and x in micrometers; nd2 gives 1 where a file doesn't state one."""
    if volume is None:
        return [None, None, None]
    sides = zip(volume.axesCalibration, volume.axesCalibrated, strict=True)
    x, y, z = (side if is_calibrated else None for side, is_calibrated in sides)
    return [z, y, x]
