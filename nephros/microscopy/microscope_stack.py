"""Stacks in files of microscopes' own software (CZI, ND2, LIF, IMS): which image, channel and time point is read."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

from nephros.errors import FileError, InvalidArgument, NephrosError
from nephros.microscopy.choices import choose_channel, choose_image, choose_time_point
from nephros.microscopy.formats.image import MicroscopeImage
from nephros.microscopy.formats.registry import FORMATS
from nephros.microscopy.pyramid import choose_level
from nephros.microscopy.stack import MAX_SLICE_PIXELS, Slice, Stack, StackOptions
from nephros.microscopy.tiff_series import MAX_PAGES

_MAX_MISSING_SHARE = 0.5
"""Share of slices without pixels from which a file is refused, and not taken for a recording that was stopped early."""
_MAX_CHANNELS_OF_LARGEST_SLICE = 8
"""Some libraries read all channels of a slice at a time."""


def open_microscope_stack(
    path: Path, format_key: str, options: StackOptions, is_mask: bool, shape: tuple[int, int, int] | None = None
) -> Stack:
    """Open a file in this process, which its library may crash; see `nephros.microscopy.isolated_stack`.

    Args:
        path: the file.
        format_key: its format in `nephros.microscopy.formats.registry.FORMATS`.
        options: what a user chooses.
        is_mask: whether the file is an instance mask, which has only one channel.
        shape: of the stack that it is the mask of: the pyramid level of this shape is read, if there is one.

    Raises:
        FileError: the file is damaged, or several channels or time points leave a choice open.
        InvalidArgument: the file has no such image, level, channel or time point.
    """
    if options.axes is not None:
        raise InvalidArgument("axes", options.axes, f"left out for {path.name}, which names its dimensions itself")
    notes: list[str] = []
    with _opened(path, format_key) as images:
        index = _choose(path, images, options, notes)
        levels = [images[index], *images[index].coarser]
        level_shapes = tuple(image.shape for image in levels)
        voxel_sizes = [image.voxel_size for image in levels]
        level = choose_level(options.level, level_shapes, voxel_sizes, path, shape, notes, options.voxel_size)
        image = levels[level]
        _check_image(path, image)
        channel = choose_channel(options.channel, image.channel_names, image.n_channels, path, is_mask=is_mask)
        time_point = choose_time_point(options.time_point, image.n_times, path, is_mask=is_mask)
        notes += _missing_notes(path, image, time_point, channel)

    def slices() -> Iterator[Slice]:
        with _opened(path, format_key) as again:
            read_plane = [again[index], *again[index].coarser][level].read_plane
            for z in range(image.shape[0]):
                values = read_plane(time_point, channel, z)
                if values.shape != image.shape[1:]:
                    raise ValueError
                yield values.astype(image.dtype.newbyteorder("="), copy=False)

    return Stack(
        path, image.shape, image.dtype.newbyteorder("="), channel, image.n_channels, image.voxel_size, slices, index,
        tuple(notes), level, time_point, level_shapes,
    )  # fmt: skip


@contextlib.contextmanager
def _opened(path: Path, format_key: str) -> Iterator[list[MicroscopeImage]]:
    """Yield the images of a file; of changed bytes, the libraries raise nearly every kind of error."""
    file_format = FORMATS[format_key]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with file_format.open(path) as images:
                yield images
    except (NephrosError, MemoryError):
        raise
    except Exception as error:
        raise FileError(
            str(path),
            f"{path} is {file_format.name}, and {file_format.module} can't read it; copy it again, or export it as "
            "OME-TIFF.",
        ) from error


def _choose(path: Path, images: list[MicroscopeImage], options: StackOptions, notes: list[str]) -> int:
    """Return the index of the image that a user chooses; by default the only one with several slices, else the first."""
    if not images:
        raise FileError(path, f"{path} holds no image; export the one with the nuclei as OME-TIFF.")
    names = [image.name for image in images]
    default = next(iter([i for i, image in enumerate(images) if not image.fault and image.shape[0] > 1][:2] or [0]), 0)
    return choose_image(options.image, names, default, path, notes)


def _check_image(path: Path, image: MicroscopeImage) -> None:
    if image.fault:
        name = f"{path}: image {image.name}" if image.name else str(path)
        raise FileError(path, f"{name} can't be read: {image.fault}; export it as OME-TIFF, or copy it again.")
    if image.shape[0] > MAX_PAGES:
        raise FileError(path, f"{path} claims {image.shape[0]:,} slices, and at most {MAX_PAGES:,} are read.")
    if image.shape[1] * image.shape[2] * image.n_channels > _MAX_CHANNELS_OF_LARGEST_SLICE * MAX_SLICE_PIXELS:
        raise FileError(
            path,
            f"{path} claims slices of {image.shape[1]:,} x {image.shape[2]:,} pixels, which are too large for memory; export "
            "tiles of it as OME-TIFF.",
        )


def _missing_notes(path: Path, image: MicroscopeImage, time_point: int, channel: int) -> list[str]:
    """Return a note where slices are missing, as in a recording that was stopped; raise FileError where most are."""
    n_missing, n_slices = image.count_missing(time_point, channel), image.shape[0]
    if n_missing > _MAX_MISSING_SHARE * n_slices:
        raise FileError(
            path,
            f"{path} lacks {n_missing:,} of the {n_slices:,} slices that it claims; copy it again from its source.",
        )
    if not n_missing:
        return []
    return [
        f"{path.name} lacks {n_missing:,} of its {n_slices:,} slices, which count as black: the recording was stopped."
    ]
