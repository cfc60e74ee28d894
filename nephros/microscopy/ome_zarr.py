"""OME-Zarr metadata, versions 0.1 to 0.5: images of a store, axes, units, pyramid levels, channel names and labels."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

from nephros.errors import FileError
from nephros.microscopy.tiff_voxel_size import micrometers_per_unit
from nephros.microscopy.voxel_size import NOT_PLAUSIBLE, is_plausible_side
from nephros.microscopy.zarr_array import ZarrArray, read_zarr_array
from nephros.microscopy.zarr_files import ZarrFiles, is_valid_key, join_key, read_json
from nephros.text_tables import join_words

_MAX_IMAGES, _MAX_LEVELS = 100_000, 64
LABELS_GROUP = "labels"


@dataclass(frozen=True)
class ZarrImage:
    """One image of a store: a pyramid of arrays of the same axes."""

    key: str
    """Path of its group in the store; empty for the store itself."""
    axes: str
    """A capital letter per dimension; those that are neither T, C, Z, Y nor X are ``?``."""
    level_keys: tuple[str, ...]
    scales: tuple[tuple[float, ...] | None, ...]
    """Of each level: the size of a pixel along each dimension, in the axis's unit."""
    units: tuple[str | None, ...]
    """Unit of each dimension, if it has one."""
    channel_names: tuple[str, ...] = ()

    def read_level(self, files: ZarrFiles, level: int) -> ZarrArray:
        """Return the array of a pyramid level; raise FileError where it is missing or has other dimensions."""
        key = self.level_keys[level]
        array = read_zarr_array(files, key)
        if array is None:
            raise FileError(
                str(files.location), f"{files.location} lacks the array {key} of its image; copy the store again."
            )
        if len(array.shape) != len(self.axes):
            raise FileError(
                str(files.location),
                f"{files.location} names {len(self.axes)} axes, and its array {key} has {len(array.shape)}; save it again.",
            )
        return array

    def voxel_size(self, level: int) -> tuple[tuple[float, float, float] | None, str]:
        """Return micrometers along z, y and x at a level, or None where they are unknown, and what is stated in their place."""
        scale = self.scales[level]
        if scale is None:
            return None, ""
        sides: list[float] = []
        if not {"Z", "Y", "X"} <= set(self.axes):
            return None, ""
        for axis in "ZYX":
            index = self.axes.index(axis)
            with contextlib.suppress(KeyError):
                sides.append(scale[index] * micrometers_per_unit(self.units[index] or ""))
        if len(sides) == 3 and all(map(is_plausible_side, sides)):
            return (sides[0], sides[1], sides[2]), ""
        text = " x ".join(f"{scale[self.axes.index(axis)]:.4g}" for axis in "ZYX")
        units = {axis.lower(): self.units[self.axes.index(axis)] for axis in "ZYX"}
        if without := [axis for axis, unit in units.items() if unit is None]:
            along = "" if len(without) == 3 else f" along {join_words(without)}"
            return (
                None,
                "" if not along and text == "1 x 1 x 1" else f"voxels of {text} (z, y, x) without a unit{along}",
            )
        unit = " and ".join(sorted(set(map(str, units.values()))))
        return None, f"voxels of {text} {unit} (z, y, x), {NOT_PLAUSIBLE}"


def read_attributes(files: ZarrFiles, key: str) -> dict[str, Any] | None:
    """Return the OME attributes of a group, or None where there is no group."""
    metadata = read_json(files, join_key(key, "zarr.json"))
    if metadata is not None:
        attributes = metadata.get("attributes")
        attributes = attributes if isinstance(attributes, dict) else {}
    else:
        attributes = read_json(files, join_key(key, ".zattrs"))
        if attributes is None:
            return {} if read_json(files, join_key(key, ".zgroup")) is not None else None
    ome = attributes.get("ome")
    return ome if isinstance(ome, dict) else attributes


def find_images(files: ZarrFiles, attributes: dict[str, Any]) -> list[str]:
    """Return the keys of the groups of a store's images: the store itself, or the positions or wells that it names."""
    if attributes.get("multiscales"):
        return [""]
    keys: list[str] = []
    if isinstance(plate := attributes.get("plate"), dict):
        for well in _dicts(plate.get("wells"))[:_MAX_IMAGES]:
            if is_valid_key(path := str(well.get("path"))):
                keys += [join_key(path, key) for key in _fields(read_attributes(files, path) or {})]
    elif attributes.get("well"):
        keys += _fields(attributes)
    elif attributes.get("bioformats2raw.layout"):
        series = (read_attributes(files, "OME") or {}).get("series")
        if isinstance(series, list):
            keys += [name for name in series if is_valid_key(name)]
        else:
            while len(keys) < _MAX_IMAGES and read_attributes(files, str(len(keys))):
                keys.append(str(len(keys)))
    return keys[:_MAX_IMAGES]


def _fields(attributes: dict[str, Any]) -> list[str]:
    """Return the keys of the fields of view in the group of a well."""
    well = attributes.get("well")
    images = _dicts(well.get("images")) if isinstance(well, dict) else []
    return [image["path"] for image in images if is_valid_key(image.get("path"))]


def read_image(files: ZarrFiles, key: str, attributes: dict[str, Any]) -> ZarrImage:
    """Return the image of a group with these attributes.

    Raises:
        FileError: its axes or levels are damaged, or lead out of the store.
    """
    try:
        multiscale = attributes["multiscales"][0]
        datasets = _dicts(multiscale["datasets"])[:_MAX_LEVELS]
        keys = [dataset["path"] for dataset in datasets]
        if not keys:
            raise ValueError
        for path in keys:
            if not is_valid_key(path):
                raise FileError(
                    str(files.location),
                    f"{files.location} names {str(path)[:80]!r} as a pyramid level, which is not within the store; copy it again "
                    "from its source.",
                )
        axes, units = _axes(multiscale.get("axes"))
        whole = _scale(multiscale, len(axes))
        scales = [_product(_scale(dataset, len(axes)), whole) for dataset in datasets]
        names = [str(c.get("label") or "") for c in _dicts((attributes.get("omero") or {}).get("channels"))]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise FileError(
            str(files.location),
            f"{files.location} has OME-Zarr metadata that are incomplete or damaged; save it again.",
        ) from error
    return ZarrImage(
        key, axes, tuple(join_key(key, path) for path in keys), tuple(scales), tuple(units), tuple(names)
    )  # fmt: skip


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _axes(values: Any) -> tuple[str, list[str | None]]:
    """Return a letter and a unit per axis. Before version 0.3 there were five without names, in version 0.3 names only.

    Dimensions of other names are ``?``, and so are all where none is called y and x.
    """
    if values is None:
        return "TCZYX", [None] * 5
    items = [{"name": item} if isinstance(item, str) else item for item in values]
    letters = []
    for item in items:
        name, kind = str(item.get("name") or "").upper(), item.get("type")
        letter = {"time": "T", "channel": "C"}.get(str(kind), name if len(name) == 1 else "?")
        letters.append(letter if letter in "TCZYX" else "?")
    axes = "".join(letters)
    if any(axes.count(letter) > 1 for letter in "TCZYX"):
        raise ValueError
    if not {"Y", "X"} <= set(axes):
        axes = "?" * len(axes)
    units = [item.get("unit") for item in items]
    return axes, [unit if isinstance(unit, str) else None for unit in units]


def _scale(element: dict[str, Any], n_axes: int) -> tuple[float, ...] | None:
    """Return the scale among an element's coordinate transformations, or None where there is none that can be used."""
    for transformation in _dicts(element.get("coordinateTransformations")):
        values = transformation.get("scale")
        if transformation.get("type") == "scale" and isinstance(values, list) and len(values) == n_axes:
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                scale = tuple(float(value) for value in values)
                if all(math.isfinite(side) and side > 0 for side in scale):
                    return scale
    return None


def _product(first: tuple[float, ...] | None, second: tuple[float, ...] | None) -> tuple[float, ...] | None:
    if first is None or second is None:
        return first or second
    return tuple(a * b for a, b in zip(first, second, strict=True))


def label_keys(files: ZarrFiles, image_key: str) -> list[str]:
    """Return the places of the label images of an image, such as ``labels/nuclei``."""
    group = read_attributes(files, join_key(image_key, LABELS_GROUP))
    names = (group or {}).get("labels")
    if not isinstance(names, list):
        return []
    return [join_key(image_key, LABELS_GROUP, name) for name in names if is_valid_key(name)]
