"""Stacks in OME-Zarr stores: which image, level, channel and time point is read; and its slices, decoded in a worker process."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nephros.errors import FileError, InvalidArgument, MissingDependency
from nephros.microscopy import zarr_files
from nephros.microscopy.choices import choose_channel, choose_image, choose_time_point
from nephros.microscopy.isolated_stack import run_isolated
from nephros.microscopy.location import StackLocation, locate
from nephros.microscopy.ome_zarr import (
    ZarrImage,
    find_images,
    label_keys,
    read_attributes,
    read_image,
)
from nephros.microscopy.pyramid import choose_level
from nephros.microscopy.stack import MAX_SLICE_PIXELS, Slice, Stack, StackOptions
from nephros.microscopy.voxel_size import VoxelSize
from nephros.microscopy.zarr_array import ZarrArray, read_zarr_array
from nephros.microscopy.zarr_files import ZarrFiles, open_zarr_files

logger = logging.getLogger(__name__)

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class _Selection:
    """What is read of a store, in values that can be sent between processes."""

    key: str
    axes: str
    fixed: list[int]
    """Index along each dimension other than Z, Y and X."""
    shape: Shape
    dtype: str
    channel: int
    n_channels: int
    voxel_size: VoxelSize | None
    image: int
    level: int
    time_point: int
    level_shapes: list[Shape]
    label_keys: list[str]
    notes: list[str]
    n_missing: int
    """Number of chunks that are missing, of a store that is on this machine."""
    implausible_size: str


def open_zarr_stack(location: StackLocation, options: StackOptions, is_mask: bool, shape: Shape | None = None) -> Stack:
    """Open an image of a store; arguments and errors are those of `nephros.microscopy.reader.open_stack`.

    Args:
        location: a folder, a zip archive or a URL.
        options: what the user chooses.
        is_mask: whether it is an instance mask.
        shape: of the stack that it is the mask of: the pyramid level of this shape is read, if there is one.
    """
    if importlib.util.find_spec("zarr") is None:
        raise MissingDependency("Reading OME-Zarr stores needs zarr: pip install 'nephros[formats]'.")
    choices: dict[str, Any] = {
        name: getattr(options, name) for name in ("channel", "image", "voxel_size", "axes", "level", "time_point")
    }
    if isinstance(location, Path) and location.is_dir():
        selection = _select(open_zarr_files(location), options, is_mask, shape)
    else:
        (facts,) = run_isolated(
            location, select_in_worker, str(location), choices, is_mask, shape, zarr_files.URL_TIMEOUT_S
        )
        selection = _Selection(**facts)

    def slices() -> Iterator[Slice]:
        chosen = (selection.key, selection.axes, selection.fixed, zarr_files.URL_TIMEOUT_S)
        items = run_isolated(location, slices_in_worker, str(location), *chosen)
        for item in items:
            if isinstance(item, np.ndarray):
                yield item
            elif item is None:  # a sign of life
                continue
            elif not isinstance(location, Path):
                logger.warning(_missing_note(location, *item))
            elif item[0] > selection.n_missing:
                raise FileError(
                    location,
                    f"{location} lost {item[0] - selection.n_missing:,} of {item[1]:,} chunks while it was read; see that "
                    "nothing else writes to it and that its disk is connected, and try again.",
                )

    def as_shape(sides: Any) -> Shape:
        z, y, x = sides
        return z, y, x

    return Stack(
        location,
        as_shape(selection.shape),
        np.dtype(selection.dtype),
        selection.channel,
        selection.n_channels,
        as_shape(selection.voxel_size) if selection.voxel_size else None,
        slices,
        selection.image,
        tuple(selection.notes),
        selection.level,
        selection.time_point,
        tuple(map(as_shape, selection.level_shapes)),
        tuple(selection.label_keys),
        selection.implausible_size,
    )


def select_in_worker(
    location: str, choices: dict[str, Any], is_mask: bool, shape: list[int] | None, url_timeout_s: float
) -> Iterator[dict[str, Any]]:
    """Yield the fields of what is read of a store."""
    files = open_zarr_files(locate(location), url_timeout_s)
    yield asdict(
        _select(files, StackOptions(**choices), is_mask, None if shape is None else (shape[0], shape[1], shape[2]))
    )


def slices_in_worker(
    location: str, key: str, axes: str, fixed: list[int], url_timeout_s: float
) -> Iterator[Slice | tuple[int, int] | None]:
    """Yield the slices of an array as `ZarrSlices` does, and last the number of missing files, where some are, and of all."""
    from nephros.microscopy.zarr_decoding import ZarrSlices

    files = open_zarr_files(locate(location), url_timeout_s)
    array = read_zarr_array(files, key)
    if array is None:
        raise FileError(location, f"{location} has changed while it was read; try again.")
    slices = ZarrSlices(files, array, axes, fixed)
    yield from slices
    n_files = array.n_files(_region(array, axes, fixed))
    if slices.n_missing:
        if files.is_remote and slices.n_missing >= n_files:
            raise FileError(location, _nothing_stored(files, array))
        yield slices.n_missing, n_files


def _select(files: ZarrFiles, options: StackOptions, is_mask: bool, shape: Shape | None) -> _Selection:
    notes: list[str] = []
    image, index = _choose_image(files, options, is_mask, notes)
    levels = [image.read_level(files, level) for level in range(len(image.level_keys))]
    axes = _axes(files, image, levels[0], options.axes, notes)
    image = replace(image, axes=axes)
    level_shapes = [_shape(array, axes) for array in levels]
    voxel_sizes = [image.voxel_size(level)[0] for level in range(len(level_shapes))]
    level = choose_level(options.level, level_shapes, voxel_sizes, files.location, shape, notes, options.voxel_size)
    array = levels[level]
    sizes = dict(zip(axes, array.shape, strict=True))
    name, n_channels, n_times = files.location.name, sizes.get("C", 1), sizes.get("T", 1)
    names = image.channel_names[:n_channels] if len(image.channel_names) >= n_channels else ()
    chosen = {
        "C": choose_channel(options.channel, names, n_channels, files.location, is_mask=is_mask),
        "T": choose_time_point(options.time_point, n_times, files.location, is_mask=is_mask),
    }
    fixed = [chosen.get(axis, 0) for axis in axes]
    voxel_size, reason = image.voxel_size(level)
    if reason and not is_mask:
        notes.append(f"{name} states {reason}.")
    n_missing, n_files = _count_missing(files, array, axes, fixed)
    notes += [_missing_note(files.location, n_missing, n_files)] if n_missing else []
    labels = [] if is_mask else label_keys(files, image.key)
    return _Selection(
        array.key, axes, fixed, level_shapes[level], array.dtype.newbyteorder("=").str, chosen["C"], n_channels, voxel_size,
        index, level, chosen["T"], level_shapes, labels, notes, n_missing, reason,
    )  # fmt: skip


def _choose_image(files: ZarrFiles, options: StackOptions, is_mask: bool, notes: list[str]) -> tuple[ZarrImage, int]:
    """Return the image that a user chooses, and its index among the images of the store."""
    if (array := read_zarr_array(files, "")) is not None:
        return _plain_image(files, array, options.axes, notes), 0
    attributes = read_attributes(files, "")
    if attributes is None:
        reason = "its server refuses access" if files.is_forbidden else "it has neither zarr.json nor .zattrs"
        raise FileError(
            str(files.location),
            f"{files.location} is not a Zarr store ({reason}); name the folder that holds the image.",
        )
    keys = find_images(files, attributes)
    if not keys and is_mask and len(names := _labels_here(files, attributes)) == 1:
        keys = names
    if not keys:
        names = _labels_here(files, attributes)
        advice = (
            f"name one of its label images: {', '.join(names)}"
            if names
            else "name one of its groups or arrays, or save it again"
        )
        raise FileError(
            str(files.location), f"{files.location} has no image by its OME-Zarr metadata (multiscales); {advice}."
        )
    names = _image_names(files, keys)
    index = choose_image(options.image, names, 0, files.location, notes)
    chosen = attributes if keys[index] == "" else read_attributes(files, keys[index]) or {}
    return read_image(files, keys[index], chosen), index


def _labels_here(files: ZarrFiles, attributes: dict[str, Any]) -> list[str]:
    """Return the keys of the label images of a store that has no other image, or is itself the group of the labels."""
    here = attributes.get("labels")
    if isinstance(here, list):
        return [name for name in here if isinstance(name, str)]
    return label_keys(files, "")


def _image_names(files: ZarrFiles, keys: list[str]) -> list[str]:
    """Return the names of images: those in their metadata where each has one of its own, else their places in the store."""
    if len(keys) == 1:
        return keys
    names = []
    for key in keys[:100]:
        multiscales = (read_attributes(files, key) or {}).get("multiscales")
        first = multiscales[0] if isinstance(multiscales, list) and multiscales else {}
        names.append(str(first.get("name") or "") if isinstance(first, dict) else "")
    return names if len(set(names)) == len(keys) else keys


def _plain_image(files: ZarrFiles, array: ZarrArray, axes: str | None, notes: list[str]) -> ZarrImage:
    """Return an array without OME-Zarr metadata as an image: the user's axes, or its own names of dimensions, or slices."""
    n, names = len(array.shape), [name.upper() for name in array.dimension_names]
    if axes is None and len(names) == n and set(names) <= set("TCZYX") and {"Y", "X"} <= set(names):
        axes = "".join(names)
    if axes is not None:
        _check_user_axes(files, axes, array)
    elif n in (2, 3):
        axes = "ZYX"[-n:]
        notes.append(f"{files.location.name} is an array without names of its dimensions, which are taken for {axes}.")
    if axes is None:
        raise FileError(
            str(files.location),
            f"{files.location} has {n} dimensions without names, of the sizes {array.shape}; name each in `axes`, such as CZYX.",
        )
    return ZarrImage("", axes, ("",), (None,), (None,) * n)


def _axes(files: ZarrFiles, image: ZarrImage, array: ZarrArray, user_axes: str | None, notes: list[str]) -> str:
    """Return a letter per dimension: the user's or the metadata's; raise for dimensions that are not part of a stack.

    Two or three dimensions of which none has a usual name are taken for slices, rows and columns, with a note.
    """
    if user_axes is not None:
        _check_user_axes(files, user_axes, array)
        return user_axes
    axes = image.axes
    if axes in ("??", "???"):
        axes = "ZYX"[-len(axes) :]
        notes.append(f"{files.location.name} has dimensions without the usual names, which are taken for {axes}.")
    if any(axis == "?" and size > 1 for axis, size in zip(axes, array.shape, strict=True)):
        raise FileError(
            str(files.location),
            f"{files.location.name} has the sizes {array.shape}, and dimensions without the names t, c, z, y and x; name each in "
            "`axes`, such as CZYX.",
        )
    return axes


def _check_user_axes(files: ZarrFiles, axes: str, array: ZarrArray) -> None:
    n = len(array.shape)
    if len(axes) != n or len(set(axes)) != n or not {"Y", "X"} <= set(axes) <= set("TCZYX"):
        raise InvalidArgument(
            "axes",
            axes,
            f"{n} different letters of T, C, Z, Y and X for the sizes {array.shape} of {files.location.name}",
        )


def _shape(array: ZarrArray, axes: str) -> Shape:
    sizes = dict(zip(axes, array.shape, strict=True))
    return sizes.get("Z", 1), sizes["Y"], sizes["X"]


def _region(array: ZarrArray, axes: str, fixed: list[int]) -> tuple[slice, ...]:
    return tuple(
        slice(0, size) if axis in "ZYX" else slice(index, index + 1)
        for axis, size, index in zip(axes, array.shape, fixed, strict=True)
    )


def _count_missing(files: ZarrFiles, array: ZarrArray, axes: str, fixed: list[int]) -> tuple[int, int]:
    """Return how many chunks are missing, and of how many; raise FileError where all are.

    Writers leave out chunks of a single value, such as the black corners of a stitched volume or the empty parts of a mask, and
    a copy that was interrupted lacks some too: the store doesn't tell which it is, so a user is told how many.
    """
    sizes = dict(zip(axes, array.shape, strict=True))
    if files.is_remote or sizes["Y"] * sizes["X"] > MAX_SLICE_PIXELS:
        return 0, 0  # each would be a request; they are counted when they are read
    region = _region(array, axes, fixed)
    n_files = array.n_files(region)
    n_missing = n_files - sum(files.exists(key) for key in array.chunk_keys(region))
    if n_missing and n_missing == n_files:
        raise FileError(str(files.location), _nothing_stored(files, array))
    return n_missing, n_files


def _nothing_stored(files: ZarrFiles, array: ZarrArray) -> str:
    return f"{files.location} holds none of the chunks of its array {array.key}; copy the store again, with all files."


def _missing_note(location: StackLocation, n_missing: int, n_files: int) -> str:
    return (
        f"{location.name} lacks {n_missing:,} of {n_files:,} chunks, which count as empty: its writer leaves out empty ones, or "
        "a copy was interrupted."
    )
