"""Imaris' IMS files, which are HDF5, read by `h5py`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.formats.image import MicroscopeImage, plausible_voxel_size, unique_names

_MICROMETERS = {"": 1.0, "um": 1.0, "µm": 1.0, "micrometer": 1.0, "nm": 1e-3, "mm": 1e3, "m": 1e6}
_MAX_SLAB_BYTES = 1 << 26
"""Bytes of slices that are read at once: a chunk spans several, and would be decoded for each of them."""


@contextlib.contextmanager
def open_ims(path: Path) -> Iterator[list[MicroscopeImage]]:
    """Yield the image of a file, with the lower resolutions that it stores."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        data_set = _group(file, "DataSet")
        levels = [_group(data_set, f"ResolutionLevel {k}") for k in range(_count(data_set, "ResolutionLevel"))]
        n_times = _count(levels[0], "TimePoint")
        n_channels = _count(_group(levels[0], "TimePoint 0"), "Channel")
        if not (n_times and n_channels):
            raise ValueError
        finest, coarser = _image(file, levels[0], n_times, n_channels, is_finest=True), []
        with contextlib.suppress(KeyError, ValueError):  # those after a damaged level are not needed
            for level in levels[1:]:
                coarser.append(_image(file, level, n_times, n_channels, is_finest=False))
        yield [replace(finest, coarser=tuple(coarser))]


def _count(group: Any, name: str) -> int:
    """Return how many members are called NAME 0, NAME 1 and so on, without a gap."""
    numbers = {int(match[1]) for key in group if (match := re.fullmatch(rf"{name} (\d{{1,9}})", key))}
    return next(n for n in range(len(numbers) + 1) if n not in numbers)


def _group(parent: Any, key: str) -> Any:
    """Return a group or a data set of the file itself: links to other files are not followed."""
    import h5py

    for part in key.split("/"):
        if not isinstance(parent.get(part, getlink=True), h5py.HardLink):
            raise ValueError
        parent = parent[part]
    return parent


def _data(level: Any, time_point: int, channel: int) -> Any:
    data = _group(level, f"TimePoint {time_point}/Channel {channel}/Data")
    if data.ndim != 3 or data.external or data.is_virtual:
        raise ValueError
    return data


def _image(file: Any, level: Any, n_times: int, n_channels: int, *, is_finest: bool) -> MicroscopeImage:
    info = _group(file, "DataSetInfo/Image").attrs
    first = _data(level, 0, 0)
    sizes = info if is_finest else _group(level, "TimePoint 0/Channel 0").attrs
    keys = ("Z", "Y", "X") if is_finest else ("ImageSizeZ", "ImageSizeY", "ImageSizeX")
    size_z, size_y, size_x = (int(_text(sizes, key) or stored) for key, stored in zip(keys, first.shape, strict=True))
    shape = (size_z, size_y, size_x)
    names = []
    for channel in range(n_channels):
        with contextlib.suppress(ValueError, KeyError):
            names.append(_text(_group(file, f"DataSetInfo/Channel {channel}").attrs, "Name"))
    slabs = _Slabs(level, shape)
    fault = ""
    # Stored sizes are rounded up to whole chunks.
    if min(shape) < 1 or any(size > stored for size, stored in zip(shape, first.shape, strict=True)):
        fault = (
            f"it claims the size {' x '.join(map(str, shape))} (z, y, x) and stores {' x '.join(map(str, first.shape))}"
        )
    return MicroscopeImage(
        _text(info, "Name"),
        shape,
        first.dtype,
        n_channels,
        unique_names(names, n_channels),
        n_times,
        plausible_voxel_size([_side(info, axis, size) for axis, size in zip((2, 1, 0), shape, strict=True)], size_z),
        slabs.read_plane,
        fault=fault,
    )


def _text(attributes: Any, key: str) -> str:
    """Return an attribute, which Imaris stores as an array of single letters."""
    value = attributes.get(key, "")
    if isinstance(value, np.ndarray):
        return value.astype("S1").tobytes().decode("utf-8", "replace").strip("\0 ")
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip("\0 ")


def _side(info: Any, axis: int, size: int) -> float | None:
    """Return a voxel's side in micrometers by the extent of the image along axis 0 (x), 1 (y) or 2 (z)."""
    factor = _MICROMETERS.get(_text(info, "Unit").lower())
    try:
        extent = float(_text(info, f"ExtMax{axis}")) - float(_text(info, f"ExtMin{axis}"))
    except ValueError:
        return None
    return None if factor is None or size < 1 else extent * factor / size


class _Slabs:
    """Reads slices in slabs as deep as the chunks they are stored in."""

    def __init__(self, level: Any, shape: tuple[int, int, int]) -> None:
        self._level, self._shape = level, shape
        self._key: tuple[int, int, int] | None = None
        self._values: NDArray[Any] = np.empty((0, 0, 0))

    def read_plane(self, time_point: int, channel: int, z: int) -> NDArray[Any]:
        data = _data(self._level, time_point, channel)
        depth, height, width = self._shape
        slice_bytes = height * width * data.dtype.itemsize
        chunk_depth = data.chunks[0] if data.chunks else 1
        n_slices = max(1, min(chunk_depth, _MAX_SLAB_BYTES // max(1, slice_bytes)))
        start = z // n_slices * n_slices
        if self._key != (time_point, channel, start):
            self._values = data[start : min(start + n_slices, depth), :height, :width]
            self._key = (time_point, channel, start)
        return np.ascontiguousarray(self._values[z - start])
