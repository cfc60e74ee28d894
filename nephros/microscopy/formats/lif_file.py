"""Leica's LIF files, read by `liffile`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.formats.image import MicroscopeImage, plausible_voxel_size, unique_names

_MICROMETERS = {"m": 1e6, "mm": 1e3, "um": 1.0, "µm": 1.0, "nm": 1e-3}
_MAX_IMAGES = 10_000


@contextlib.contextmanager
def open_lif(path: Path) -> Iterator[list[MicroscopeImage]]:
    """Yield the images of a file."""
    import liffile

    with liffile.LifFile(path, squeeze=False) as file:
        if file.type != liffile.LifFileType.LIF:  # the others name further files, which may be anywhere
            raise ValueError
        yield [_image(image, path) for image in list(file.images)[:_MAX_IMAGES]]


def _image(image: Any, path: Path) -> MicroscopeImage:
    name = str(image.name)
    try:
        sizes = dict(image.sizes)
    except Exception:  # an image of a kind that liffile doesn't describe
        return _unreadable(name, "its kind of image is not known")
    if image.is_flim:
        return _unreadable(name, "it is an image of lifetimes (FLIM)")
    other = [axis for axis, size in sizes.items() if axis not in "TCZYX" and size > 1]
    if other:
        what = "it is in color" if other == ["S"] else f"it has a dimension {other[0]} of {sizes[other[0]]:,}"
        return _unreadable(name, what)
    if not {"Y", "X"} <= set(sizes):
        return _unreadable(name, "it has no rows and columns")
    shape = (sizes.get("Z", 1), sizes["Y"], sizes["X"])
    dimensions = {dimension.label: dimension for dimension in image._dimensions}
    channels = image._channels
    return MicroscopeImage(
        name,
        shape,
        np.dtype(image.dtype),
        sizes.get("C", 1),
        unique_names(_channel_names(image, channels), sizes.get("C", 1)),
        sizes.get("T", 1),
        plausible_voxel_size([_side(dimensions.get(axis)) for axis in "ZYX"], shape[0]),
        lambda time_point, channel, z: _read_plane(image, {"T": time_point, "C": channel, "Z": z}, shape[1:]),
        fault=_storage_fault(image, dimensions, channels, path),
    )


def _unreadable(name: str, fault: str) -> MicroscopeImage:
    return MicroscopeImage(
        name, (1, 1, 1), np.dtype(np.uint8), 1, (), 1, None, lambda t, c, z: np.zeros((1, 1), np.uint8), fault=fault
    )


def _storage_fault(image: Any, dimensions: dict[str, Any], channels: Any, path: Path) -> str:
    """Return what is wrong with the bytes that an image claims: liffile reads on in the next image's."""
    block = image.memory_block
    last = sum((dimension.number_elements - 1) * dimension.bytes_inc for dimension in dimensions.values())
    last += max((channel.bytes_inc for channel in channels), default=0) + image.dtype.itemsize
    if block.frames or block.offset < 0 or block.size == 0:
        return "its pixels are not in this file"
    if last > block.size:
        return f"it claims {last:,} bytes of pixels and has {block.size:,}"
    if block.offset + block.size > path.stat().st_size:
        return "the file is cut short; copy it again"
    return ""


def _read_plane(image: Any, indices: dict[str, int], shape: tuple[int, ...]) -> NDArray[Any]:
    known = {axis: index for axis, index in indices.items() if axis in image.sizes}
    return np.ascontiguousarray(np.asarray(image.frame(**known)).reshape(shape))


def _side(dimension: Any) -> float | None:
    """Return the distance between two elements in micrometers; the length is from the first to the last."""
    if dimension is None or dimension.number_elements < 2 or not dimension.length:
        return None
    factor = _MICROMETERS.get(dimension.unit.strip())
    return None if factor is None else abs(dimension.length) * factor / (dimension.number_elements - 1)


def _channel_names(image: Any, channels: Any) -> list[str]:
    """Return the names of channels: of their dye where the file says it, else of their color."""
    dyes = [
        next((text for text in (_property(element, "DyeName"), _property(element, "StainName")) if text), "")
        for element in image.xml_element.findall("./Data/Image/ImageDescription/Channels/ChannelDescription")
    ]
    return dyes if all(dyes) else [channel.lut_name for channel in channels]


def _property(element: Any, key: str) -> str:
    for item in element.findall("./ChannelProperty"):
        if item.findtext("Key") == key:
            return str(item.findtext("Value") or "")
    return ""
