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

from nephros.errors import UserError, did_you_mean
from nephros.microscopy.voxel_size import Voxels, of_file

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

Slice = NDArray[Any]

LARGEST_SLICE = 1 << 29
"""Bytes. Two slices, of the stack and of its mask, are held at a time."""


@dataclass(frozen=True)
class Stack:
    """One channel of a stack of slices on disk."""

    path: Path
    shape: tuple[int, int, int]
    """Slices, rows, columns."""
    dtype: np.dtype[Any]
    channel: int
    channels: int
    voxel_size: Voxels | None
    """Micrometres along z, y and x, where the file says so."""
    read: Callable[[], Iterator[Slice]]

    def slices(self) -> Iterator[Slice]:
        """Read the slices from the first to the last, each (rows, columns); UserError where bytes are lost."""
        return self.read()


def open_stack(path: str | Path, channel: int | None = None, *, mask: bool = False) -> Stack:
    """Open a stack: TIFF, OME-TIFF or ImageJ's TIFF, or a .npy array (slices, rows, columns).

    A plain multi-page TIFF is taken as slices, and a single picture as one slice. Only headers are read here. A `mask` has
    one channel.

    Raises:
        UserError: the file is missing, damaged or not such a stack, or has several channels and `channel` is None.
    """
    path = Path(path).expanduser().absolute()
    start = _start(path)
    if start.startswith(b"\x93NUMPY"):
        stack = _npy(path)
    elif start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        stack = _tiff(path, channel, mask)
    else:
        raise UserError(f"{path} is neither a TIFF file nor a .npy array; save the stack as TIFF or OME-TIFF.")
    if not 0 <= (channel or 0) < stack.channels:
        highest = f"0 to {stack.channels - 1}" if stack.channels > 1 else "0 only"
        raise UserError(f"--channel is {channel}, but {path.name} has the channels {highest}.")
    if min(stack.shape) < 1:
        raise UserError(f"{path} is empty: its shape is {stack.shape}.")
    if stack.dtype.kind not in "buif":
        raise UserError(f"{path} has pixels of type {stack.dtype}; save it as 8 or 16 bit integers.")
    if stack.shape[1] * stack.shape[2] * stack.dtype.itemsize > LARGEST_SLICE:
        raise UserError(
            f"{path} has slices of {stack.shape[1]:,} x {stack.shape[2]:,} pixels, too large to hold one; cut it into tiles."
        )
    return stack


@contextlib.contextmanager
def needs_stacks() -> Iterator[None]:
    """Within the block a missing part of nephros[stacks] is one sentence."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("tifffile", "skimage", "imagecodecs"):
            raise
        raise UserError("Reading stacks needs tifffile and scikit-image: pip install 'nephros[stacks]'.") from None


@contextlib.contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    """Turn what reading raises into one sentence.

    Any Exception: on changed bytes tifffile and the decoders below it raise nearly every kind there is.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if "imagecodecs" in str(error):
            raise UserError(
                f"{path} is compressed in a way that needs imagecodecs: pip install 'nephros[stacks]'."
            ) from error
        raise UserError(f"{path} is damaged or cut short; copy it again from where it was made.") from error


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except (FileNotFoundError, NotADirectoryError) as error:
        near = did_you_mean(path.name, os.listdir(path.parent)) if path.parent.is_dir() else ""
        raise UserError(f"{path} does not exist; give the path of a TIFF file.{near}") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder; give the path of one TIFF file with all slices.") from error
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}); check its permissions.") from error
    if not start:
        raise UserError(f"{path} is empty (0 bytes); copy it again.")
    return start


def _npy(path: Path) -> Stack:
    with _undamaged(path), path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        offset = file.tell()
    if dtype.hasobject:
        raise UserError(f"{path} holds pickled Python objects, which are never opened; save it as numbers.")
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) != 3 or fortran:
        raise UserError(f"{path} has shape {shape}; save it in C order as slices, rows, columns.")
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if path.stat().st_size < offset + size:
        raise UserError(f"{path} is cut short: {path.stat().st_size:,} of {offset + size:,} bytes; copy it again.")

    def slices() -> Iterator[Slice]:
        yield from _raw(path, offset, shape, dtype, range(shape[0]))

    return Stack(path, shape, dtype, 0, 1, None, slices)


def _raw(
    path: Path, offset: int, shape: tuple[int, int, int], dtype: np.dtype[Any], planes: Iterator[int] | range
) -> Iterator[Slice]:
    """Read planes that lie behind each other in the file; not memory-mapped, since mapped pages count as memory used."""
    count = shape[1] * shape[2]
    with path.open("rb") as file:
        for plane in planes:
            file.seek(offset + plane * count * dtype.itemsize)
            values = np.fromfile(file, dtype, count)
            if len(values) < count:
                raise UserError(f"{path} is cut short; copy it again from where it was made.")
            yield values.reshape(shape[1:]).astype(dtype.newbyteorder("="), copy=False)


@contextlib.contextmanager
def _series(path: Path) -> Iterator[tuple[TiffFile, TiffPageSeries]]:
    """Open the file's first image series; tifffile's own remarks on odd metadata are not for users."""
    with needs_stacks():
        import tifffile
    remarks = _Remarks()
    logger = logging.getLogger("tifffile")
    aloud, logger.propagate = logger.propagate, False
    logger.addHandler(remarks)
    try:
        # A set of several files counts as one file with slices missing: what lies beside it has no digest in the notes.
        with _undamaged(path), tifffile.TiffFile(path, _multifile=False) as file:
            series = file.series
            if remarks.lost:
                raise UserError(
                    f"{path} is cut short: its later pages are missing; copy it again from where it was made."
                )
            if len(series) > 1 and series[0].kind in ("generic", "uniform"):
                raise UserError(f"{path} has pages that differ in size or depth; save the slices of one stack alone.")
            yield file, series[0]
    finally:
        logger.removeHandler(remarks)
        logger.propagate = aloud


class _Remarks(logging.Handler):
    """Hears from tifffile that pages are missing, which it does not raise."""

    lost = False

    def emit(self, record: logging.LogRecord) -> None:
        """Take one remark."""
        words = record.getMessage()
        self.lost = self.lost or "page offset" in words or "page list" in words or "failed to reshape" in words


def _tiff(path: Path, channel: int | None, mask: bool) -> Stack:
    with _series(path) as (file, series):
        axes = _axes(path, series)
        sizes = {axis: int(size) for axis, size in zip(axes, series.shape, strict=True)}
        dtype, voxel_size = np.dtype(series.dtype or "u1"), of_file(file)
        length = path.stat().st_size
        if series.dataoffset is not None and series.dataoffset + series.size * dtype.itemsize > length:
            raise UserError(f"{path} is cut short: its header promises more than its {length:,} bytes; copy it again.")
    channels, shape = sizes.get("C", 1), (sizes.get("Z", 1), sizes["Y"], sizes["X"])
    if channels > 1 and mask:
        raise UserError(f"{path} has {channels} channels, and a mask has one; save the nuclei's numbers alone.")
    if channels > 1 and channel is None:
        raise UserError(f"{path.name} has {channels} channels: say which one shows the nuclei, such as --channel 0.")
    picked = channel or 0
    outer = [(axis, size) for axis, size in sizes.items() if axis in "CZ"]

    def plane(z: int) -> int:
        found = 0
        for axis, size in outer:
            found = found * size + (z if axis == "Z" else picked)
        return found

    def slices() -> Iterator[Slice]:
        with _series(path) as (_, series):
            if series.dataoffset is not None:
                order = np.dtype(series.keyframe.parent.byteorder + dtype.char)
                yield from _raw(path, series.dataoffset, shape, order, map(plane, range(shape[0])))
                return
            for z in range(shape[0]):
                page = series.pages[plane(z)]
                if page is None:
                    raise UserError(f"{path} lacks slice {z}: it is one file of several; save the stack as one file.")
                values = page.asarray(maxworkers=1)
                if values.shape != shape[1:]:
                    raise UserError(
                        f"{path}: slice {z} has the shape {values.shape}, not {shape[1:]}; save the stack again."
                    )
                yield values

    return Stack(path, shape, dtype, picked, channels, voxel_size, slices)


def _axes(path: Path, series: TiffPageSeries) -> str:
    """Return one letter a dimension out of C, Z, Y, X and, for dimensions of length 1, others."""
    axes, shape = series.axes, series.shape
    long = [axis for axis, size in zip(axes, shape, strict=True) if size > 1 and axis not in "YX"]
    if "S" in axes:
        raise UserError(f"{path} is a colour picture (RGB); save the nuclei's channel alone, in grey.")
    if "T" in long:
        raise UserError(
            f"{path} is a time series (axes {axes}, shape {shape}); save one time point as a stack with a Z axis."
        )
    unknown = [axis for axis in long if axis not in "CZ"]
    if not axes.endswith("YX") or len(unknown) + ("Z" in long) > 1:
        raise UserError(
            f"{path} has the axes {axes} with the sizes {shape}, which don't say what is slice and what is channel; "
            "save it as OME-TIFF or from ImageJ."
        )
    return axes.replace(unknown[0], "Z") if unknown else axes
