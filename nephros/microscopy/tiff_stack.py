"""Stacks in one TIFF file: which of its dimensions are slices and channels, and its slices one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import unescape

import numpy as np

from nephros.data.images.color import LOOKUP_TABLE_NOTE, is_lookup_table
from nephros.data.images.tiff_decoding import PALETTE, WHITE_IS_ZERO, decode_page
from nephros.data.images.tiff_description import SIGNED_NOTE, imagej_offset
from nephros.data.images.tiff_pixels import WHITE_IS_ZERO_NOTE, colormap_to_palette
from nephros.errors import FileError, InvalidArgument
from nephros.microscopy.choices import choose_index, choose_time_point, listing
from nephros.microscopy.pyramid import choose_level, level_voxel_size
from nephros.microscopy.stack import Slice, Stack, StackOptions, read_raw_planes
from nephros.microscopy.tiff_levels import level_series
from nephros.microscopy.tiff_series import check_all_planes, open_series
from nephros.microscopy.tiff_voxel_size import (
    format_pixel_size,
    implausible_size_of_tiff,
    leaves_out_step,
    pixel_size_of_tiff,
    voxel_size_of_tiff,
)
from nephros.microscopy.voxel_size import TRAINING_VOXEL_SIZE, VoxelSize, format_voxel_size

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

MANY_CHANNELS = 5
"""Channels from which those of a single slice are likely to be slices."""


def open_tiff_stack(
    path: Path, options: StackOptions, is_mask: bool, mask_of: tuple[int, int, int] | None = None
) -> Stack:
    """Open an image of a TIFF file; arguments and errors are those of `nephros.microscopy.reader.open_stack`."""
    with open_series(path, options.image) as opened:
        file, series = opened.file, opened.series
        axes = _axes_of_series(path, series, options, is_mask, mask_of)
        n_interleaved = int(series.shape[-1]) if series.axes.endswith("YXS") else 1
        notes = [*opened.notes, *(_axes_notes(path, series, axes, options.axes) if is_mask else [])]
        notes += [] if is_mask else photometric_notes(path, series.keyframe)
        levels = level_series(series)
        level_shapes = tuple(_shape(axes, level) for level in levels)
        voxel_size, size_notes = _voxel_size(path, file, level_shapes[0][0])
        notes += [] if is_mask else size_notes
        voxel_sizes = [level_voxel_size(voxel_size, level_shapes[0], shape) for shape in level_shapes]
        level = choose_level(options.level, level_shapes, voxel_sizes, path, mask_of, notes, options.voxel_size)
        shape, sizes = level_shapes[level], dict(zip(axes, map(int, series.shape), strict=True))
        sizes["Z"], n_channels = shape[0], sizes.get("C", 1)
        series = levels[level]
        planes_per_page = 1 if n_interleaved > 1 else max(1, int(np.prod(series.keyframe.shape[:-2])))
        dtype, implausible_size = np.dtype(series.dtype or "u1"), "" if voxel_size else implausible_size_of_tiff(file)
        check_all_planes(path, file, series)
        offset, names = imagej_offset(file.pages.first.description), _channel_names(file, opened.image, n_channels)
    notes += _check_channels(path, axes, n_channels, shape[0], options.channel, names, is_mask)
    channel = 0 if options.channel is None else choose_index("channel", options.channel, names, n_channels, path.name)
    time_point = choose_time_point(options.time_point, sizes.get("T", 1), path, is_mask=is_mask)
    outer_axes = [(axis, size) for axis, size in sizes.items() if axis in ("TZ" if n_interleaved > 1 else "TCZ")]

    def plane_index(z: int) -> int:
        index, place = 0, {"T": time_point, "C": channel, "Z": z}
        for axis, size in outer_axes:
            index = index * size + place[axis]
        return index

    def slices() -> Iterator[Slice]:
        n_bytes = path.stat().st_size
        with open_series(path, opened.image if opened.n_images > 1 else None) as reopened:
            series = level_series(reopened.series)[level]
            if series.dataoffset is not None:
                file_dtype = np.dtype(series.keyframe.parent.byteorder + dtype.char)
                raw_shape = (shape[0], shape[1], shape[2] * n_interleaved)
                planes = map(plane_index, range(shape[0]))
                for values in read_raw_planes(path, series.dataoffset, raw_shape, file_dtype, planes):
                    yield values[:, channel::n_interleaved] if n_interleaved > 1 else values
                return
            for z in range(shape[0]):
                page_index, plane = divmod(plane_index(z), planes_per_page)
                page = series.pages[page_index]
                if page is None:
                    raise FileError(
                        path, f"{path} lacks slice {z}: it is one file of several; save the stack as one file."
                    )
                if 0 in page.databytecounts:
                    raise FileError(
                        path, f"{path}: slice {z} was never written completely; copy the file again from its source."
                    )
                values = decode_page(f"{path}: slice {z}", page, n_bytes)
                if planes_per_page > 1:
                    values = values.reshape(planes_per_page, *values.shape[-2:])[plane]
                if n_interleaved > 1:
                    values = values[..., channel]
                if values.shape != shape[1:]:
                    raise FileError(
                        path, f"{path}: slice {z} has shape {values.shape}, not {shape[1:]}; save the stack again."
                    )
                yield values

    stack = Stack(
        path, shape, dtype, channel, n_channels, voxel_sizes[level], slices, opened.image, tuple(notes), level, time_point,
        level_shapes, implausible_size=implausible_size,
    )  # fmt: skip
    return _signed(stack, offset) if offset and dtype == np.uint16 else stack


def _shape(axes: str, series: TiffPageSeries) -> tuple[int, int, int]:
    sizes = dict(zip(axes, map(int, series.shape), strict=True))
    return sizes.get("Z", 1), sizes["Y"], sizes["X"]


def _voxel_size(path: Path, file: TiffFile, n_slices: int) -> tuple[VoxelSize | None, list[str]]:
    """Return the voxel size of an image, and a note where its file states no step along z."""
    voxel_size = voxel_size_of_tiff(file)
    if voxel_size is None and (pixel_size := pixel_size_of_tiff(file)):
        voxel_size = (TRAINING_VOXEL_SIZE[0], *pixel_size) if n_slices == 1 else None
        return voxel_size, [_pixel_size_note(path, pixel_size, n_slices)]
    if voxel_size is not None and n_slices > 1 and leaves_out_step(file):
        return voxel_size, [
            f"{path.name} states no step along z, and ImageJ leaves it out where it is 1: its voxels are taken for "
            f"{format_voxel_size(voxel_size)} (z, y, x); if the step is another, set `voxel_size`."
        ]
    return voxel_size, []


def _check_channels(
    path: Path,
    axes: str,
    n_channels: int,
    n_slices: int,
    channel: int | str | None,
    names: Sequence[str],
    is_mask: bool,
) -> list[str]:
    """Raise FileError where there are several channels and none is chosen; return a note where they are likely to be slices."""
    if n_channels == 1:
        return []
    if is_mask:
        raise FileError(path, f"{path} has {n_channels} channels, and a mask has one; save only the ids of the nuclei.")
    as_slices = (
        f"if they are the slices of one channel, set `axes` to {axes.replace('C', 'Z')}" if n_slices == 1 else ""
    )
    if channel is None:
        listed = f" ({listing(names, n_channels)})" if names else ""
        raise FileError(
            path,
            f"{path.name} has {n_channels} channels{listed}{' and one slice' if as_slices else ''}; set `channel` to "
            f"the one that shows the nuclei, {'by number or name' if names else f'from 0 to {n_channels - 1}'}"
            f"{', or, ' + as_slices if as_slices else ''}.",
        )
    if as_slices and n_channels >= MANY_CHANNELS:
        return [f"{path.name} has {n_channels} channels of one slice, and one of them is read; {as_slices}."]
    return []


def _signed(stack: Stack, offset: int) -> Stack:
    """Return a stack with the sign that ImageJ's calibration gives its values."""
    return replace(
        stack,
        dtype=np.dtype(np.int32),
        read_slices=lambda: (values.astype(np.int32) - offset for values in stack.slices()),
        notes=(*stack.notes, f"{stack.path.name}: {SIGNED_NOTE}"),
    )


def _channel_names(file: TiffFile, image: int, n_channels: int) -> list[str]:
    """Return the names of an image's channels, in OME metadata or ImageJ's labels of slices; none where they are unclear."""
    images = re.split(r"<(?:\w+:)?Image\b", file.ome_metadata or "")[1:]
    # Where the metadata were rewritten for the image that is read, they name no other.
    text = images[min(image, len(images) - 1)] if images else ""
    names = re.findall(r"<(?:\w+:)?Channel\b[^>]*\bName=\"([^\"]{1,60})\"", text)
    if not names and (imagej := file.imagej_metadata):
        labels = imagej.get("Labels") or []
        names = [str(label).strip()[:60] for label in labels[:n_channels]] if isinstance(labels, list) else []
        names = names if len(set(names)) == n_channels else []
    return [unescape(name) for name in names] if len(names) == n_channels and n_channels > 1 else []


def _pixel_size_note(path: Path, pixel_size: tuple[float, float], n_slices: int) -> str:
    """Return what a file states of its voxels and what it doesn't."""
    thickness = (
        f"; its one slice counts as {TRAINING_VOXEL_SIZE[0]:g} thick" if n_slices == 1 else ", but no step along z"
    )
    return f"{path.name} states {format_pixel_size(pixel_size)}{thickness}."


def photometric_notes(path: Path, page: TiffPage) -> list[str]:
    """Return a sentence where a display would show other values than those stored; FileError where these mean nothing."""
    if page.photometric == WHITE_IS_ZERO:
        return [f"{path.name}: {WHITE_IS_ZERO_NOTE}"]
    if page.photometric == PALETTE:
        if not is_lookup_table(colormap_to_palette(page.colormap), page.bitspersample):
            raise FileError(path, f"{path} has a palette of colors, not intensities; save it in grayscale.")
        return [f"{path.name}: {LOOKUP_TABLE_NOTE}"]
    return []


def _axes_of_series(
    path: Path, series: TiffPageSeries, options: StackOptions, is_mask: bool, mask_of: tuple[int, int, int] | None
) -> str:
    """Return one letter per dimension, C, Z, Y or X, or any other for dimensions of length 1: the user's or the file's.

    Color planes are channels where the user chooses one.
    """
    axes = options.axes
    if is_mask and series.axes.endswith("S"):
        raise FileError(
            path,
            f"{path} is a color image, and a mask has one number per voxel; save the labels themselves, not their colors.",
        )
    if axes is None and not is_mask and options.channel is not None and "S" in series.axes:
        return _normalized_axes(path, series.axes.replace("S", "C"), series.shape, options, is_mask)
    if not series.axes.endswith("YX"):
        return _normalized_axes(path, series.axes, series.shape, options, is_mask)
    if axes is not None:
        is_valid = axes.endswith("YX") and len(set(axes)) == len(axes) and set(axes) <= set("TZCYX")
        if not is_valid or len(axes) != len(series.axes):
            raise InvalidArgument(
                "axes",
                axes,
                f"{len(series.axes)} different letters of T, Z, C, Y and X that end with YX, for the sizes {series.shape} of "
                f"{path.name}",
            )
        return axes
    long_axes = [axis for axis, size in zip(series.axes, series.shape, strict=True) if size > 1 and axis not in "YX"]
    # The time points of a mask are slices, unless its stack is a time series of single slices.
    has_time = options.time_point is not None and mask_of is not None and mask_of[0] == 1
    if is_mask and (long_axes in (["C"], ["S"]) or (long_axes == ["T"] and not has_time)):
        return series.axes.replace(long_axes[0], "Z")
    return _normalized_axes(path, series.axes, series.shape, options, is_mask)


def _axes_notes(path: Path, series: TiffPageSeries, axes: str, user_axes: str | None) -> list[str]:
    """Return a sentence where a mask's channels, color samples or time points are taken for slices."""
    if user_axes is not None or "Z" in series.axes or not (what := {"C", "S", "T"} & (set(series.axes) - set(axes))):
        return []
    kind = "channels" if "C" in what else "time points" if "T" in what else "color planes"
    return [f"{path.name} has {series.shape[0]} {kind} by its metadata, which are taken for the slices of a mask."]


def _normalized_axes(path: Path, axes: str, shape: tuple[int, ...], options: StackOptions, is_mask: bool) -> str:
    """Return one letter per dimension: T, C, Z, Y or X, or any other for dimensions of length 1."""
    long_axes = [axis for axis, size in zip(axes, shape, strict=True) if size > 1 and axis not in "YX"]
    if "S" in axes:
        slices = (
            f", or, if its {shape[0]} planes are slices, set `axes` to {axes.replace('S', 'Z')}"
            if axes == "SYX"
            else ""
        )
        raise FileError(
            path,
            f"{path} is a color image (RGB); set `channel` to the plane of the nuclei (0 red, 1 green, 2 blue), or save only "
            f"that plane, in grayscale{slices}.",
        )
    if "T" in long_axes and options.time_point is None and not is_mask:
        raise FileError(
            path,
            f"{path} is a time series (axes {axes}, shape {shape}); set `time_point` to one of 0 to "
            f"{shape[axes.index('T')] - 1}, or, if these are slices, name each dimension in `axes`, such as ZYX.",
        )
    unknown_axes = [axis for axis in long_axes if axis not in "TCZ"]
    if not axes.endswith(("YX", "YXC")) or len(unknown_axes) + ("Z" in long_axes) > 1:
        raise FileError(
            path,
            f"{path} has the axes {axes} with the sizes {shape}, which don't tell slices from channels; "
            "save it as OME-TIFF or from ImageJ, or name each dimension in `axes`, such as ZCYX.",
        )
    return axes.replace(unknown_axes[0], "Z") if unknown_axes else axes
