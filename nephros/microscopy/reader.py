"""A 3-D fluorescence stack or a mask of one, read a slice at a time: memory holds a slice, however deep the stack is."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import NephrosError, did_you_mean
from nephros.microscopy.voxel_size import VoxelSize, voxel_size_of_tiff

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

Slice = NDArray[Any]

MAX_SLICE_BYTES = 1 << 29
"""Bytes. Two slices, of the stack and of its mask, are held at a time."""


@dataclass(frozen=True)
class Stack:
    """One channel of a stack of slices on disk."""

    path: Path
    shape: tuple[int, int, int]
    """Slices, rows, columns."""
    dtype: np.dtype[Any]
    channel: int
    n_channels: int
    voxel_size: VoxelSize | None
    """Micrometres along z, y and x, where the file says so."""
    read_slices: Callable[[], Iterator[Slice]]

    def slices(self) -> Iterator[Slice]:
        """Read the slices from the first to the last, each (rows, columns); UserError where bytes are lost."""
        return self.read_slices()


def open_stack(path: str | Path, channel: int | None = None, *, is_mask: bool = False) -> Stack:
    """Open a stack: TIFF, OME-TIFF or ImageJ's TIFF, or a .npy array (slices, rows, columns).

    A plain multi-page TIFF is taken as slices, and a single picture as one slice. Only headers are read here. A `is_mask` has
    one channel.

    Raises:
        UserError: the file is missing, damaged or not such a stack, or has several channels and `channel` is None.
    """
    path = Path(path).expanduser().absolute()
    magic = _read_magic(path)
    if magic.startswith(b"\x93NUMPY"):
        stack = _open_npy(path)
    elif magic[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        stack = _open_tiff(path, channel, is_mask)
    else:
        raise NephrosError(f"{path} is neither a TIFF file nor a .npy array; save the stack as TIFF or OME-TIFF.")
    if not 0 <= (channel or 0) < stack.n_channels:
        valid_channels = f"0 to {stack.n_channels - 1}" if stack.n_channels > 1 else "0 only"
        raise NephrosError(f"--channel is {channel}, but {path.name} has the channels {valid_channels}.")
    if min(stack.shape) < 1:
        raise NephrosError(f"{path} is empty: its shape is {stack.shape}.")
    if stack.dtype.kind not in "buif":
        raise NephrosError(f"{path} has pixels of type {stack.dtype}; save it as 8 or 16 bit integers.")
    if stack.shape[1] * stack.shape[2] * stack.dtype.itemsize > MAX_SLICE_BYTES:
        raise NephrosError(
            f"{path} has slices of {stack.shape[1]:,} x {stack.shape[2]:,} pixels, too large to hold one; cut it into tiles."
        )
    return stack


@contextlib.contextmanager
def requires_stacks_extra() -> Iterator[None]:
    """Within the block a missing part of nephros[stacks] is one sentence."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("tifffile", "skimage", "imagecodecs"):
            raise
        raise NephrosError("Reading stacks needs tifffile and scikit-image: pip install 'nephros[stacks]'.") from None


@contextlib.contextmanager
def _translate_read_errors(path: Path) -> Iterator[None]:
    """Turn what reading raises into one sentence.

    Any Exception: on changed bytes tifffile and the decoders below it raise nearly every kind there is.
    """
    try:
        yield
    except NephrosError:
        raise
    except Exception as error:
        if "imagecodecs" in str(error):
            raise NephrosError(
                f"{path} is compressed in a way that needs imagecodecs: pip install 'nephros[stacks]'."
            ) from error
        raise NephrosError(f"{path} is damaged or cut short; copy it again from where it was made.") from error


def _read_magic(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            magic = file.read(8)
    except (FileNotFoundError, NotADirectoryError) as error:
        suggestion = did_you_mean(path.name, os.listdir(path.parent)) if path.parent.is_dir() else ""
        raise NephrosError(f"{path} does not exist; give the path of a TIFF file.{suggestion}") from error
    except IsADirectoryError as error:
        raise NephrosError(f"{path} is a folder; give the path of one TIFF file with all slices.") from error
    except OSError as error:
        raise NephrosError(f"{path} can't be read ({error.strerror}); check its permissions.") from error
    if not magic:
        raise NephrosError(f"{path} is empty (0 bytes); copy it again.")
    return magic


def _open_npy(path: Path) -> Stack:
    with _translate_read_errors(path), path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran_order, dtype = read_header(file)
        offset = file.tell()
    if dtype.hasobject:
        raise NephrosError(f"{path} holds pickled Python objects, which are never opened; save it as numbers.")
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) != 3 or is_fortran_order:
        raise NephrosError(f"{path} has shape {shape}; save it in C order as slices, rows, columns.")
    n_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if path.stat().st_size < offset + n_bytes:
        raise NephrosError(
            f"{path} is cut short: {path.stat().st_size:,} of {offset + n_bytes:,} bytes; copy it again."
        )

    def slices() -> Iterator[Slice]:
        yield from _read_raw_planes(path, offset, shape, dtype, range(shape[0]))

    return Stack(path, shape, dtype, 0, 1, None, slices)


def _read_raw_planes(
    path: Path, offset: int, shape: tuple[int, int, int], dtype: np.dtype[Any], planes: Iterator[int] | range
) -> Iterator[Slice]:
    """Read planes that lie behind each other in the file; not memory-mapped, since mapped pages count as memory used."""
    plane_pixels = shape[1] * shape[2]
    with path.open("rb") as file:
        for plane in planes:
            file.seek(offset + plane * plane_pixels * dtype.itemsize)
            values = np.fromfile(file, dtype, plane_pixels)
            if len(values) < plane_pixels:
                raise NephrosError(f"{path} is cut short; copy it again from where it was made.")
            yield values.reshape(shape[1:]).astype(dtype.newbyteorder("="), copy=False)


@contextlib.contextmanager
def _open_series(path: Path) -> Iterator[tuple[TiffFile, TiffPageSeries]]:
    """Open the file's first image series; tifffile's own remarks on odd metadata are not for users."""
    with requires_stacks_extra():
        import tifffile
    log_watcher = _TruncationLogHandler()
    logger = logging.getLogger("tifffile")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(log_watcher)
    try:
        # A set of several files counts as one file with slices missing: what lies beside it has no digest in the notes.
        with _translate_read_errors(path), tifffile.TiffFile(path, _multifile=False) as file:
            series = file.series
            if log_watcher.is_truncated:
                raise NephrosError(
                    f"{path} is cut short: its later pages are missing; copy it again from where it was made."
                )
            if len(series) > 1 and series[0].kind in ("generic", "uniform"):
                raise NephrosError(
                    f"{path} has pages that differ in size or depth; save the slices of one stack alone."
                )
            yield file, series[0]
    finally:
        logger.removeHandler(log_watcher)
        logger.propagate = propagate


class _TruncationLogHandler(logging.Handler):
    """Hears from tifffile that pages are missing, which it does not raise."""

    is_truncated = False

    def emit(self, record: logging.LogRecord) -> None:
        """Take one remark."""
        message = record.getMessage()
        self.is_truncated = (
            self.is_truncated or "page offset" in message or "page list" in message or "failed to reshape" in message
        )


def _open_tiff(path: Path, channel: int | None, is_mask: bool) -> Stack:
    with _open_series(path) as (file, series):
        axes = _normalized_axes(path, series)
        sizes = {axis: int(size) for axis, size in zip(axes, series.shape, strict=True)}
        dtype, voxel_size = np.dtype(series.dtype or "u1"), voxel_size_of_tiff(file)
        file_bytes = path.stat().st_size
        if series.dataoffset is not None and series.dataoffset + series.size * dtype.itemsize > file_bytes:
            raise NephrosError(
                f"{path} is cut short: its header promises more than its {file_bytes:,} bytes; copy it again."
            )
    n_channels, shape = sizes.get("C", 1), (sizes.get("Z", 1), sizes["Y"], sizes["X"])
    if n_channels > 1 and is_mask:
        raise NephrosError(f"{path} has {n_channels} channels, and a mask has one; save the nuclei's numbers alone.")
    if n_channels > 1 and channel is None:
        raise NephrosError(
            f"{path.name} has {n_channels} channels: say which one shows the nuclei, such as --channel 0."
        )
    channel_index = channel or 0
    outer_axes = [(axis, size) for axis, size in sizes.items() if axis in "CZ"]

    def plane_index(z: int) -> int:
        index = 0
        for axis, size in outer_axes:
            index = index * size + (z if axis == "Z" else channel_index)
        return index

    def slices() -> Iterator[Slice]:
        with _open_series(path) as (_, series):
            if series.dataoffset is not None:
                file_dtype = np.dtype(series.keyframe.parent.byteorder + dtype.char)
                yield from _read_raw_planes(
                    path, series.dataoffset, shape, file_dtype, map(plane_index, range(shape[0]))
                )
                return
            for z in range(shape[0]):
                page = series.pages[plane_index(z)]
                if page is None:
                    raise NephrosError(
                        f"{path} lacks slice {z}: it is one file of several; save the stack as one file."
                    )
                values = page.asarray(maxworkers=1)
                if values.shape != shape[1:]:
                    raise NephrosError(
                        f"{path}: slice {z} has the shape {values.shape}, not {shape[1:]}; save the stack again."
                    )
                yield values

    return Stack(path, shape, dtype, channel_index, n_channels, voxel_size, slices)


def _normalized_axes(path: Path, series: TiffPageSeries) -> str:
    """Return one letter a dimension out of C, Z, Y, X and, for dimensions of length 1, others."""
    axes, shape = series.axes, series.shape
    long_axes = [axis for axis, size in zip(axes, shape, strict=True) if size > 1 and axis not in "YX"]
    if "S" in axes:
        raise NephrosError(f"{path} is a colour picture (RGB); save the nuclei's channel alone, in grey.")
    if "T" in long_axes:
        raise NephrosError(
            f"{path} is a time series (axes {axes}, shape {shape}); save one time point as a stack with a Z axis."
        )
    unknown_axes = [axis for axis in long_axes if axis not in "CZ"]
    if not axes.endswith("YX") or len(unknown_axes) + ("Z" in long_axes) > 1:
        raise NephrosError(
            f"{path} has the axes {axes} with the sizes {shape}, which don't say what is slice and what is channel; "
            "save it as OME-TIFF or from ImageJ."
        )
    return axes.replace(unknown_axes[0], "Z") if unknown_axes else axes
