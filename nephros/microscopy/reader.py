"""3-D fluorescence stacks and their masks, read slice by slice: memory holds one slice, however deep the stack is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.color import LOOKUP_TABLE_NOTE, is_lookup_table
from nephros.data.foreign_formats import HEAD_BYTES, foreign_format, overview_format
from nephros.data.input_files import NPY_MAGIC, TIFF_MAGIC, read_magic, read_npy_header
from nephros.data.tiff_decoding import PALETTE, WHITE_IS_ZERO, decode_page
from nephros.data.tiff_pixels import WHITE_IS_ZERO_NOTE, colormap_to_palette
from nephros.errors import FileError, InvalidArgument
from nephros.microscopy.tiff_series import check_all_planes, open_series, translate_read_errors
from nephros.microscopy.tiff_voxel_size import voxel_size_of_tiff
from nephros.microscopy.voxel_size import VoxelSize

if TYPE_CHECKING:
    from tifffile import TiffPage, TiffPageSeries

Slice = NDArray[Any]

MAX_SLICE_BYTES = 1 << 29
"""Largest slice in bytes. Memory holds two slices at a time, of the stack and of its mask."""


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

    def __post_init__(self) -> None:
        if self.min_volume is not None and not 0 < self.min_volume < float("inf"):
            raise InvalidArgument("min_volume", self.min_volume, "a volume above 0, such as 30 cubic micrometers")


MANY_CHANNELS = 5
"""Channels from which those of a single slice are likely to be slices."""


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


def open_stack(
    path: str | Path,
    channel: int | None = None,
    *,
    image: int | None = None,
    axes: str | None = None,
    is_mask: bool = False,
) -> Stack:
    """Open a stack, reading only its headers.

    Args:
        path: TIFF, OME-TIFF, ImageJ TIFF, or a .npy array of (slices, rows, columns). The pages of a plain multi-page TIFF are
            slices; a single image is one slice.
        channel: index of the channel to read; None where there is only one.
        image: index of the image to read in a file that holds several, such as OME-TIFF with several positions; None takes the
            only one with several slices, else the first.
        axes: what the file's dimensions are, such as ``"ZYX"`` where slices are saved as channels; None takes the file's word.
        is_mask: whether the file is an instance mask, which has only one channel: channels of a single slice count as slices.

    Raises:
        FileError: the file is missing, damaged or not such a stack, or has several channels and `channel` is None.
        InvalidArgument: the file has no image `image`, or the image no channel `channel`, or `axes` can't be its dimensions.
        MissingDependency: reading the file needs the extra `stacks`.
    """
    path = Path(path).expanduser().absolute()
    magic = read_magic(path, "a TIFF file with all slices", HEAD_BYTES)
    if magic.startswith(NPY_MAGIC):
        stack = _open_npy(path)
        if image:
            raise InvalidArgument("image", image, f"0 for {path.name}")
        if axes not in (None, "ZYX"):
            raise InvalidArgument("axes", axes, f"ZYX for {path.name}")
    elif file_format := overview_format(path):
        raise FileError(path, file_format.message(path))
    elif magic.startswith(TIFF_MAGIC):
        stack = _open_tiff(path, StackOptions(channel, image, axes=axes), is_mask)
    elif file_format := foreign_format(magic, path):
        raise FileError(path, file_format.message(path))
    else:
        raise FileError(path, f"{path} is neither a TIFF file nor a .npy array; save the stack as TIFF or OME-TIFF.")
    if not 0 <= (channel or 0) < stack.n_channels:
        valid_channels = f"from 0 to {stack.n_channels - 1}" if stack.n_channels > 1 else "0"
        raise InvalidArgument("channel", channel, f"{valid_channels} for {path.name}")
    if min(stack.shape) < 1:
        raise FileError(path, f"{path} is empty: its shape is {stack.shape}.")
    if stack.dtype.kind not in "buif":
        raise FileError(path, f"{path} has pixels of type {stack.dtype}; save it as 8- or 16-bit integers.")
    if stack.shape[1] * stack.shape[2] * stack.dtype.itemsize > MAX_SLICE_BYTES:
        raise FileError(
            path,
            f"{path} has slices of {stack.shape[1]:,} x {stack.shape[2]:,} pixels, which are too large for memory; "
            "cut it into tiles.",
        )
    return _with_integer_ids(stack) if is_mask and stack.dtype.kind == "f" else stack


def _with_integer_ids(mask: Stack) -> Stack:
    """Return a mask of floating-point pixels as one of integers, which its slices must hold."""
    dtype: np.dtype[Any] = np.dtype(np.int64 if mask.dtype.itemsize == 8 else np.int32)
    max_id = 1 << (53 if dtype.itemsize == 8 else 30)

    def slices() -> Iterator[Slice]:
        for z, values in enumerate(mask.slices()):
            ids = np.where(np.abs(values) <= max_id, values, 0).astype(dtype)
            if (wrong := ids != values).any():
                raise FileError(
                    mask.path,
                    f"{mask.path} has the value {values[wrong][0]:g} in slice {z}; a mask holds whole numbers: 0 outside, and "
                    "a unique positive id per nucleus.",
                )
            yield ids

    return replace(mask, dtype=dtype, read_slices=slices)


def _open_npy(path: Path) -> Stack:
    with translate_read_errors(path), path.open("rb") as file:
        header = read_npy_header(file, path)
        offset = file.tell()
    dims = (1, *header.shape) if len(header.shape) == 2 else header.shape
    if len(dims) != 3 or header.fortran_order:
        raise FileError(path, f"{path} has shape {header.shape}; save it in C order as slices, rows, columns.")
    shape, dtype = (dims[0], dims[1], dims[2]), header.dtype
    n_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if path.stat().st_size < offset + n_bytes:
        raise FileError(
            path, f"{path} is cut short: {path.stat().st_size:,} of {offset + n_bytes:,} bytes; copy it again."
        )

    def slices() -> Iterator[Slice]:
        yield from _read_raw_planes(path, offset, shape, dtype, range(shape[0]))

    return Stack(path, shape, dtype, 0, 1, None, slices)


def _read_raw_planes(
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


def _open_tiff(path: Path, options: StackOptions, is_mask: bool) -> Stack:
    channel = options.channel
    with open_series(path, options.image) as opened:
        file, series = opened.file, opened.series
        axes = _axes_of_series(path, series, options, is_mask)
        n_interleaved = int(series.shape[-1]) if series.axes.endswith("YXS") else 1
        planes_per_page = 1 if n_interleaved > 1 else max(1, int(np.prod(series.keyframe.shape[:-2])))
        notes = [*opened.notes, *_axes_notes(path, series, axes, options.axes)]
        notes += [] if is_mask else _photometric_notes(path, series.keyframe)
        sizes = {axis: int(size) for axis, size in zip(axes, series.shape, strict=True)}
        dtype, voxel_size = np.dtype(series.dtype or "u1"), voxel_size_of_tiff(file)
        check_all_planes(path, file, series)
    n_channels, shape = sizes.get("C", 1), (sizes.get("Z", 1), sizes["Y"], sizes["X"])
    if n_channels > 1 and is_mask:
        raise FileError(path, f"{path} has {n_channels} channels, and a mask has one; save only the ids of the nuclei.")
    if n_channels > 1:
        as_slices = (
            f"if they are the slices of one channel, set `axes` to {axes.replace('C', 'Z')}" if shape[0] == 1 else ""
        )
        if channel is None:
            raise FileError(
                path,
                f"{path.name} has {n_channels} channels{' and one slice' if as_slices else ''}; set `channel` to the one that "
                f"shows the nuclei, from 0 to {n_channels - 1}{', or, ' + as_slices if as_slices else ''}.",
            )
        if as_slices and n_channels >= MANY_CHANNELS:
            notes.append(f"{path.name} has {n_channels} channels of one slice, and one of them is read; {as_slices}.")
    channel_index = channel or 0
    outer_axes = [(axis, size) for axis, size in sizes.items() if axis in ("Z" if n_interleaved > 1 else "CZ")]

    def plane_index(z: int) -> int:
        index = 0
        for axis, size in outer_axes:
            index = index * size + (z if axis == "Z" else channel_index)
        return index

    def slices() -> Iterator[Slice]:
        n_bytes = path.stat().st_size
        with open_series(path, opened.image if opened.n_images > 1 else None) as reopened:
            series = reopened.series
            if series.dataoffset is not None:
                file_dtype = np.dtype(series.keyframe.parent.byteorder + dtype.char)
                raw_shape = (shape[0], shape[1], shape[2] * n_interleaved)
                planes = map(plane_index, range(shape[0]))
                for values in _read_raw_planes(path, series.dataoffset, raw_shape, file_dtype, planes):
                    yield values[:, channel_index::n_interleaved] if n_interleaved > 1 else values
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
                    values = values[..., channel_index]
                if values.shape != shape[1:]:
                    raise FileError(
                        path, f"{path}: slice {z} has shape {values.shape}, not {shape[1:]}; save the stack again."
                    )
                yield values

    return Stack(path, shape, dtype, channel_index, n_channels, voxel_size, slices, opened.image, tuple(notes))


def _photometric_notes(path: Path, page: TiffPage) -> list[str]:
    """Return a sentence where a display would show other values than those stored; FileError where these mean nothing."""
    if page.photometric == WHITE_IS_ZERO:
        return [f"{path.name}: {WHITE_IS_ZERO_NOTE}"]
    if page.photometric == PALETTE:
        if not is_lookup_table(colormap_to_palette(page.colormap), page.bitspersample):
            raise FileError(path, f"{path} has a palette of colors, not intensities; save it in grayscale.")
        return [f"{path.name}: {LOOKUP_TABLE_NOTE}"]
    return []


def _axes_of_series(path: Path, series: TiffPageSeries, options: StackOptions, is_mask: bool) -> str:
    """Return one letter per dimension, C, Z, Y or X, or any other for dimensions of length 1: the user's or the file's.

    Color planes are channels where the user chooses one.
    """
    axes = options.axes
    if axes is None and not is_mask and options.channel is not None and "S" in series.axes:
        return _normalized_axes(path, series.axes.replace("S", "C"), series.shape)
    if not series.axes.endswith("YX"):
        return _normalized_axes(path, series.axes, series.shape)
    if axes is not None:
        is_valid = axes.endswith("YX") and len(set(axes)) == len(axes) and set(axes) <= set("ZCYX")
        if not is_valid or len(axes) != len(series.axes):
            raise InvalidArgument(
                "axes",
                axes,
                f"{len(series.axes)} different letters of Z, C, Y and X that end with YX, for the sizes {series.shape} of "
                f"{path.name}",
            )
        return axes
    long_axes = [axis for axis, size in zip(series.axes, series.shape, strict=True) if size > 1 and axis not in "YX"]
    if is_mask and long_axes in (["C"], ["S"]):
        return series.axes.replace(long_axes[0], "Z")
    return _normalized_axes(path, series.axes, series.shape)


def _axes_notes(path: Path, series: TiffPageSeries, axes: str, user_axes: str | None) -> list[str]:
    """Return a sentence where a mask's channels or color samples are taken for slices."""
    if user_axes is not None or "Z" in series.axes or not (what := {"C", "S"} & (set(series.axes) - set(axes))):
        return []
    kind = "channels" if "C" in what else "color planes"
    return [f"{path.name} has {series.shape[0]} {kind} by its metadata, which are taken for the slices of a mask."]


def _normalized_axes(path: Path, axes: str, shape: tuple[int, ...]) -> str:
    """Return one letter per dimension: C, Z, Y or X, or any other for dimensions of length 1."""
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
    if "T" in long_axes:
        raise FileError(
            path,
            f"{path} is a time series (axes {axes}, shape {shape}); save one time point as a stack with a Z axis, or, "
            "if these are slices, name each dimension in `axes`, such as ZYX.",
        )
    unknown_axes = [axis for axis in long_axes if axis not in "CZ"]
    if not axes.endswith(("YX", "YXC")) or len(unknown_axes) + ("Z" in long_axes) > 1:
        raise FileError(
            path,
            f"{path} has the axes {axes} with the sizes {shape}, which don't tell slices from channels; "
            "save it as OME-TIFF or from ImageJ, or name each dimension in `axes`, such as ZCYX.",
        )
    return axes.replace(unknown_axes[0], "Z") if unknown_axes else axes
