"""Stacks whose slices are image files: in a folder with one file per slice and channel, or a single image."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nephros.data.images.color import PLANE_NAMES, signal_planes
from nephros.data.images.decoder import ImageDecoder
from nephros.data.images.decoding import strict_pillow_warnings
from nephros.data.images.tiff_decoding import decode_page
from nephros.data.input_files import TIFF_MAGIC, read_bytes, read_magic
from nephros.errors import FileError
from nephros.files import file_digest
from nephros.microscopy.choices import choose_index
from nephros.microscopy.isolated_stack import is_plain_tiff, run_isolated
from nephros.microscopy.location import StackLocation, StackUrl
from nephros.microscopy.sequence import find_sequence, image_names, slice_naming
from nephros.microscopy.stack import Slice, Stack, StackOptions
from nephros.microscopy.tiff_series import require_stacks_extra, translate_read_errors
from nephros.microscopy.tiff_stack import photometric_notes
from nephros.microscopy.tiff_voxel_size import implausible_size_of_tiff, voxel_size_of_tiff
from nephros.microscopy.voxel_size import VoxelSize
from nephros.microscopy.zarr_digest import zarr_digest
from nephros.microscopy.zarr_files import is_zarr_folder, is_zarr_zip

_SMALL_SIDE = 64
"""Pixels per side up to which images whose names don't mark slices may be images of single cells."""


def open_sequence_stack(folder: Path, options: StackOptions, is_mask: bool) -> Stack:
    """Open a folder as a stack.

    Raises:
        FileError: the files are not slices and channels of one stack, or there are several channels and none is chosen.
        InvalidArgument: `image` or `axes` doesn't apply to a folder.
    """
    replace(options, channel=None).check_single(f"the folder {folder.name}", "ZYX")
    sequence = find_sequence(folder, all_slices=is_mask or options.axes == "ZYX")
    n_channels = len(sequence.files)
    if n_channels > 1 and (is_mask or options.channel is None):
        names = ", ".join(f"{index} {name}" for index, name in enumerate(sequence.channel_names))
        if is_mask:
            raise FileError(
                folder, f"{folder} has {n_channels} channels ({names}), and a mask has one; leave its files only."
            )
        as_slices = ", or, if they are slices of one channel, set `axes` to ZYX" if sequence.n_slices == 1 else ""
        raise FileError(
            folder,
            f"{folder.name} has {n_channels} channels ({names}); set `channel` to the number or name of the one that "
            f"shows the nuclei{as_slices}.",
        )
    if n_channels == 1:
        files = sequence.files[0]
        stack = _stack_of_files(folder, files, options, is_mask)
    else:
        channel = choose_index("channel", options.channel or 0, sequence.channel_names, n_channels, folder.name)
        files = sequence.files[channel]
        stack = _stack_of_files(folder, files, replace(options, channel=None), is_mask)
        stack = replace(stack, channel=channel, n_channels=n_channels)
    notes = [sequence.note(), *stack.notes]
    if max(stack.shape[1:]) <= _SMALL_SIDE and slice_naming(image_names(path.name for path in files)) != "marked":
        notes.append(
            f"{folder.name} has images of {stack.shape[2]}x{stack.shape[1]} pixels; if each shows a single cell, "
            f"`nephros.predict({str(folder)!r})` classifies them."
        )
    return replace(stack, notes=tuple(notes))


def open_image_stack(path: Path, options: StackOptions, is_mask: bool) -> Stack:
    """Open a PNG or JPEG image as a stack of one slice; errors are those of `open_sequence_stack`."""
    replace(options, channel=None).check_single(path.name, "YX")
    return _stack_of_files(path, (path,), options, is_mask)


def _stack_of_files(path: Path, files: Sequence[Path], options: StackOptions, is_mask: bool) -> Stack:
    """Return the stack whose slices are these files; of color images, a plane is chosen, as in a single file."""
    plane, pixels = None, _read_planes(files[0])
    n_channels = pixels.shape[2]
    if options.channel is not None:
        names = PLANE_NAMES[:n_channels] if n_channels > 1 else ()
        plane = choose_index("channel", options.channel, names, n_channels, path.name)
    channel = _plane(files[0], pixels, plane)
    first = np.ascontiguousarray(pixels[..., channel])
    if plane is None and channel == 0:  # gray in three equal planes
        n_channels = 1

    def slices() -> Iterator[Slice]:
        for file in files:
            values = _read_slice(file, plane)
            if (values.shape, values.dtype) != (first.shape, first.dtype):
                raise FileError(
                    file,
                    f"{file} has {_size_text(values)}, and {files[0].name} {_size_text(first)}; all slices of a stack are alike.",
                )
            yield values

    notes, voxel_size, implausible_size = _read_facts(files[0], is_mask)
    shape = (len(files), first.shape[0], first.shape[1])
    return Stack(
        path, shape, first.dtype, channel, n_channels, voxel_size, slices, notes=tuple(notes),
        implausible_size=implausible_size,
    )  # fmt: skip


def _size_text(values: NDArray[Any]) -> str:
    return f"{values.shape[1]}x{values.shape[0]} pixels of type {values.dtype}"


def _is_tiff(path: Path) -> bool:
    return read_magic(path, "an image").startswith(TIFF_MAGIC)


def _read_planes(path: Path) -> NDArray[Any]:
    """Return the stored values of the only page of an image file, (h, w, planes)."""
    if not _is_tiff(path):
        with strict_pillow_warnings():
            return np.atleast_3d(ImageDecoder().decode_image(path, read_bytes(path)).pixels)
    with require_stacks_extra():
        import tifffile  # noqa: F401
    if is_plain_tiff(path):
        return _read_tiff_planes(path)
    (planes,) = run_isolated(path, planes_in_worker, str(path))
    return cast("NDArray[Any]", planes)


def planes_in_worker(path: str) -> Iterator[NDArray[Any]]:
    """Yield the stored values of the only page of a TIFF file, (h, w, planes)."""
    yield _read_tiff_planes(Path(path))


def _read_tiff_planes(path: Path) -> NDArray[Any]:
    import tifffile

    # As a plain TIFF: the metadata of one file of a set describe the whole stack.
    with translate_read_errors(path), tifffile.TiffFile(path, is_ome=False, is_imagej=False, _multifile=False) as file:
        if len(file.pages) > 1:
            raise FileError(
                path,
                f"{path} has {len(file.pages):,} pages; a folder that is a stack has one slice of one channel per file.",
            )
        page = file.pages.first
        if page.axes not in ("YX", "YXS", "SYX"):
            raise FileError(path, f"{path} has the axes {page.axes}, and a slice has Y and X; save the slices again.")
        values = decode_page(path, page, path.stat().st_size)
        return np.moveaxis(values, 0, -1) if page.axes == "SYX" else np.atleast_3d(values)


def _read_slice(path: Path, plane: int | None) -> NDArray[Any]:
    """Return one plane of an image file, (h, w), as `_plane` chooses it."""
    pixels = _read_planes(path)
    return np.ascontiguousarray(pixels[..., _plane(path, pixels, plane)])


def _plane(path: Path, pixels: NDArray[Any], plane: int | None) -> int:
    """Return which plane of an image is read: the chosen one, the only one, or the one that a program has colored."""
    n_planes = pixels.shape[2]
    if plane is None and n_planes >= 3:
        colors = pixels[..., :3]
        if (colors == colors[..., :1]).all():
            plane = 0
        elif len(signal := signal_planes(colors)) == 1 and not np.delete(colors, signal[0], axis=2).any():
            plane = signal[0]
    if n_planes > 1 and (plane is None or plane >= n_planes):
        raise FileError(
            path,
            f"{path} is a color image of {n_planes} planes; set `channel` to that of the nuclei (0 red, 1 green, 2 blue), or "
            "save only that plane, in grayscale.",
        )
    return plane if n_planes > 1 and plane is not None else 0


def _read_facts(path: Path, is_mask: bool) -> tuple[list[str], VoxelSize | None, str]:
    """Return a sentence where a display would show other values than those stored, the voxel size that a file states, and what
    it states of it that can't be used.
    """
    if not _is_tiff(path):
        return [], None, ""
    read = (
        facts_in_worker(str(path), is_mask)
        if is_plain_tiff(path)
        else run_isolated(path, facts_in_worker, str(path), is_mask)
    )
    ((notes, voxel_size, implausible_size),) = read
    return list(notes), cast(VoxelSize, tuple(voxel_size)) if voxel_size else None, implausible_size


def facts_in_worker(path: str, is_mask: bool) -> Iterator[tuple[list[str], VoxelSize | None, str]]:
    """Yield the notes on a TIFF file, its voxel size, and what it states of it that can't be used."""
    import tifffile

    with translate_read_errors(Path(path)), tifffile.TiffFile(path, _multifile=False) as file:
        notes, voxel_size = [] if is_mask else photometric_notes(Path(path), file.pages.first), voxel_size_of_tiff(file)
        yield notes, voxel_size, "" if voxel_size else implausible_size_of_tiff(file)


def stack_digest(path: StackLocation) -> str:
    """Return the SHA-256 of a stack's file, or of the names and digests of the files in its folder.

    Of a Zarr store label images don't count, which are added to it later; of one behind a URL only metadata do.
    """
    if isinstance(path, StackUrl) or is_zarr_folder(path) or is_zarr_zip(path):
        return zarr_digest(path)
    if not path.is_dir():
        return file_digest(path)
    digest = hashlib.sha256()
    for name in image_names(os.listdir(path)):
        digest.update(f"{name}\0{file_digest(path / name)}\0".encode())
    return digest.hexdigest()
