"""Zeiss' CZI files, read by `pylibCZIrw`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.formats.image import MicroscopeImage, plausible_voxel_size, unique_names

_DTYPES = {"Gray8": np.uint8, "Gray16": np.uint16, "Gray32Float": np.float32}
_MAX_SUBBLOCKS = 5_000_000


@contextlib.contextmanager
def open_czi(path: Path) -> Iterator[list[MicroscopeImage]]:
    """Yield the images of a file, one per scene."""
    from pylibCZIrw import czi

    with czi.open_czi(str(path)) as file:
        root = ElementTree.fromstring(file.raw_metadata or "<ImageDocument/>")
        scenes: dict[int | None, Any] = dict(file.scenes_bounding_rectangle_no_pyramid)
        scenes = scenes or {None: file.total_bounding_rectangle_no_pyramid}
        yield [_image(file, root, scene, rectangle) for scene, rectangle in sorted(scenes.items(), key=str)]


def _image(file: Any, root: ElementTree.Element, scene: int | None, rectangle: Any) -> MicroscopeImage:
    box = file.total_bounding_box_no_pyramid
    ranges = {axis: limits for axis, limits in box.items() if axis not in "XY"}
    sizes = {axis: last - first for axis, (first, last) in ranges.items()}
    n_channels, n_slices = sizes.get("C", 1), sizes.get("Z", 1)
    pixel_type = file.pixel_types.get(ranges.get("C", (0, 1))[0], "")
    other = [axis for axis, size in sizes.items() if axis not in "TCZS" and size > 1]
    fault = ""
    if other:
        fault = f"it has a dimension {other[0]} of {sizes[other[0]]:,} beside time, scene, channel and space"
    elif len(set(file.pixel_types.values())) > 1 or pixel_type not in _DTYPES:
        kinds = ", ".join(dict.fromkeys(file.pixel_types.values()))
        fault = f"its pixels are {kinds}; only {', '.join(_DTYPES)} are read, and one kind for all channels"

    def plane(time_point: int, channel: int, z: int) -> dict[str, int]:
        indices = {"T": time_point, "C": channel, "Z": z}
        return {axis: ranges[axis][0] + index for axis, index in indices.items() if axis in ranges}

    def read_plane(time_point: int, channel: int, z: int) -> NDArray[Any]:
        values = file.read(roi=tuple(rectangle), plane=plane(time_point, channel, z), scene=scene)
        return np.array(values[..., 0])

    names = [
        element.get("Name") or ""
        for element in root.findall("./Metadata/Information/Image/Dimensions/Channels/Channel")
    ]
    scene_names = {
        element.get("Index"): element.get("Name") or ""
        for element in root.findall("./Metadata/Information/Image/Dimensions/S/Scenes/Scene")
    }
    sides = {
        element.get("Id"): _micrometers(element.findtext("Value"))
        for element in root.findall("./Metadata/Scaling/Items/Distance")
    }
    return MicroscopeImage(
        scene_names.get(str(scene), ""),
        (n_slices, int(rectangle.h), int(rectangle.w)),
        np.dtype(_DTYPES.get(pixel_type, np.uint8)),
        n_channels,
        unique_names(names, n_channels),
        sizes.get("T", 1),
        plausible_voxel_size([sides.get(axis) for axis in "ZYX"], n_slices),
        read_plane,
        lambda time_point, channel: n_slices - _count_slices(file, plane(time_point, channel, 0), scene),
        fault,
    )


def _count_slices(file: Any, plane: dict[str, int], scene: int | None) -> int:
    """Return how many slices have pixels, by the file's directory."""
    slices: set[int] = set()
    n_blocks = 0
    coordinates = {axis: index for axis, index in plane.items() if axis != "Z"} | (
        {} if scene is None else {"S": scene}
    )

    def see(index: int, block: Any) -> bool:
        nonlocal n_blocks
        n_blocks += 1
        slices.add(int(block.coordinate.to_dict().get("Z", 0)))
        return n_blocks < _MAX_SUBBLOCKS

    file.enumerate_subblocks_subset(see, plane=coordinates or None, only_layer0=True)
    return len(slices)


def _micrometers(meters: str | None) -> float | None:
    """Return a distance in micrometers, which the file states in meters."""
    try:
        return None if meters is None else float(meters) * 1e6
    except ValueError:
        return None
