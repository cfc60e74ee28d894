"""Opening 3-D fluorescence stacks and their masks; memory holds one slice, however deep the stack is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nephros.data.images.foreign_formats import HEAD_BYTES, folder_format, foreign_format, overview_format
from nephros.data.input_files import NPY_MAGIC, TIFF_MAGIC, read_magic, read_npy_header
from nephros.errors import FileError, InvalidArgument
from nephros.microscopy.formats.registry import microscope_format
from nephros.microscopy.isolated_stack import open_isolated_stack
from nephros.microscopy.location import StackUrl, locate
from nephros.microscopy.roi_mask import is_roi_archive, open_roi_mask
from nephros.microscopy.sequence_stack import open_image_stack, open_sequence_stack
from nephros.microscopy.stack import MAX_SLICE_PIXELS, Slice, Stack, StackOptions, read_raw_planes
from nephros.microscopy.tiff_series import translate_read_errors
from nephros.microscopy.zarr_files import is_zarr_folder, is_zarr_zip
from nephros.microscopy.zarr_stack import open_zarr_stack

_IMAGE_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
"""First bytes of PNG and JPEG files."""


def open_stack(
    path: str | Path | StackUrl,
    channel: int | str | None = None,
    *,
    image: int | str | None = None,
    axes: str | None = None,
    level: int | str | None = None,
    time_point: int | None = None,
    is_mask: bool = False,
    shape: tuple[int, int, int] | None = None,
) -> Stack:
    """Open a stack, reading only its headers.

    Args:
        path: TIFF, OME-TIFF, ImageJ TIFF, a .npy array of (slices, rows, columns), or a folder with an image file per slice and
            channel. The pages of a plain multi-page TIFF are slices; a single image, of PNG or JPEG too, is one slice. An
            OME-Zarr store is a folder, a zip archive or a URL (https or s3). Or a CZI, ND2, LIF or IMS file.
        channel: index or name of the channel to read; None where there is only one.
        image: index or name of the image to read in a file that holds several, such as OME-TIFF with several positions; None
            takes the only one with several slices, else the first.
        axes: what the file's dimensions are, such as ``"ZYX"`` where slices are saved as channels; None takes the file's word.
        level: level of an image pyramid, 0 for the finest; ``"auto"`` takes the coarsest that is as fine as the training data,
            None the finest.
        time_point: index in a time series; None where there is only one.
        is_mask: whether the file is an instance mask, which has only one channel: channels of a single slice count as slices.
        shape: of the stack that the file is the mask of, by which a level of a pyramid of masks is chosen.

    Raises:
        FileError: the file is missing, damaged or not such a stack, or has several channels and `channel` is None.
        InvalidArgument: the file has no image `image`, or the image no channel `channel`, or `axes` can't be its dimensions.
        MissingDependency: reading the file needs the extra `stacks` or `formats`.
    """
    options = StackOptions(channel, image, axes=axes, level=level, time_point=time_point)
    return open_stack_with(path, options, is_mask=is_mask, shape=shape)


def open_stack_with(
    path: str | Path | StackUrl,
    options: StackOptions,
    *,
    is_mask: bool = False,
    shape: tuple[int, int, int] | None = None,
) -> Stack:
    """Open a stack by what a user says of it; arguments and errors are those of `open_stack`."""
    path, level = locate(path), options.level
    if isinstance(path, StackUrl) or is_zarr_folder(path) or is_zarr_zip(path):
        return _checked(open_zarr_stack(path, options, is_mask, shape), is_mask)
    is_folder = path.is_dir() and folder_format(path) is None
    magic = b"" if is_folder else read_magic(path, "a TIFF file with all slices", HEAD_BYTES)
    if level not in (None, 0, "0", "auto") and not (magic.startswith(TIFF_MAGIC) or microscope_format(path)):
        raise InvalidArgument("level", level, f"left out for {path.name}, which can't have a pyramid")
    if is_folder:
        return _checked(open_sequence_stack(path, options, is_mask), is_mask)
    if is_mask and is_roi_archive(path):
        return open_roi_mask(path, shape)
    if magic.startswith(NPY_MAGIC):
        stack = _open_npy(path, options)
    elif file_format := overview_format(path):
        raise FileError(path, file_format.message(path))
    elif magic.startswith(TIFF_MAGIC) or microscope_format(path):
        stack = open_isolated_stack(path, options, is_mask, shape)
    elif magic.startswith(_IMAGE_MAGIC):
        stack = open_image_stack(path, options, is_mask)
    elif file_format := foreign_format(magic, path):
        raise FileError(path, file_format.message(path))
    else:
        raise FileError(path, f"{path} is neither a TIFF file nor a .npy array; save the stack as TIFF or OME-TIFF.")
    return _checked(stack, is_mask)


def _checked(stack: Stack, is_mask: bool) -> Stack:
    """Return a stack, or mask of whole numbers, after checking that it can be read."""
    path = stack.path
    if min(stack.shape) < 1:
        raise FileError(path, f"{path} is empty: its shape is {stack.shape}.")
    if stack.dtype.kind not in "buif":
        raise FileError(path, f"{path} has pixels of type {stack.dtype}; save it as 8- or 16-bit integers.")
    if stack.shape[1] * stack.shape[2] > MAX_SLICE_PIXELS:
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
                    str(mask.path),
                    f"{mask.path} has the value {values[wrong][0]:g} in slice {z}; a mask holds whole numbers: 0 outside, and "
                    "a unique positive id per nucleus.",
                )
            yield ids

    return replace(mask, dtype=dtype, read_slices=slices)


def _open_npy(path: Path, options: StackOptions) -> Stack:
    options.check_single(path.name, "ZYX")
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
        yield from read_raw_planes(path, offset, shape, dtype, range(shape[0]))

    return Stack(path, shape, dtype, 0, 1, None, slices)
