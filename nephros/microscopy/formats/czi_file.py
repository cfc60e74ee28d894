"""Zeiss' CZI files, read by `pylibCZIrw`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.formats.image import MicroscopeImage, plausible_voxel_size, unique_names

_DTYPES = {"Gray8": np.uint8, "Gray16": np.uint16, "Gray32Float": np.float32}
_MAX_SUBBLOCKS = 5_000_000
_MAX_FACTOR = 128
"""Largest downscaling of a pyramid level that is read."""


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

    def reader(factor: int) -> Callable[[int, int, int], NDArray[Any]]:
        def read_plane(time_point: int, channel: int, z: int) -> NDArray[Any]:
            place = plane(time_point, channel, z)
            return np.array(file.read(roi=tuple(rectangle), plane=place, scene=scene, zoom=1 / factor)[..., 0])

        return read_plane

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
    finest = MicroscopeImage(
        scene_names.get(str(scene), ""),
        (n_slices, int(rectangle.h), int(rectangle.w)),
        np.dtype(_DTYPES.get(pixel_type, np.uint8)),
        n_channels,
        unique_names(names, n_channels),
        sizes.get("T", 1),
        plausible_voxel_size([sides.get(axis) for axis in "ZYX"], n_slices),
        reader(1),
        lambda time_point, channel: n_slices - _count_slices(file, plane(time_point, channel, 0), scene),
        fault,
    )
    coarser = [
        replace(
            finest,
            shape=(n_slices, finest.shape[1] // factor, finest.shape[2] // factor),
            voxel_size=finest.voxel_size
            and (finest.voxel_size[0], finest.voxel_size[1] * factor, finest.voxel_size[2] * factor),
            read_plane=reader(factor),
        )
        for factor in _pyramid_factors(file, plane(0, 0, 0), scene)
        if factor <= min(finest.shape[1:])
    ]
    return replace(finest, coarser=tuple(coarser))


def _pyramid_factors(file: Any, plane: dict[str, int], scene: int | None) -> list[int]:
    """Return by how much the stored levels of a plane's pyramid are downscaled, in ascending order."""
    factors: set[int] = set()
    n_blocks = 0

    def see(index: int, block: Any) -> bool:
        nonlocal n_blocks
        n_blocks += 1
        sides = (block.logicalRect.w, block.physicalSize.w), (block.logicalRect.h, block.physicalSize.h)
        # Sizes that were rounded up make the ratio of a small block too small.
        factors.add(max((round(logical / stored) for logical, stored in sides if stored > 0), default=1))
        return n_blocks < _MAX_SUBBLOCKS

    coordinates = plane | ({} if scene is None else {"S": scene})
    file.enumerate_subblocks_subset(see, plane=coordinates or None)
    return sorted(factor for factor in factors if 1 < factor <= _MAX_FACTOR)


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
