"""Files of TIFF and of microscopes, opened and decoded in a process that can be killed unless they are certain to be harmless."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nephros.data.images.decoder import DECODE_TIMEOUT_S, read_isolated
from nephros.data.images.decoding_cost import CHEAP_COMPRESSIONS
from nephros.data.images.tiff_directories import walk_file
from nephros.errors import FileError
from nephros.isolation.pool import TimeBudget
from nephros.microscopy.formats.registry import FORMATS, microscope_format
from nephros.microscopy.location import StackLocation, StackUrl
from nephros.microscopy.microscope_stack import open_microscope_stack
from nephros.microscopy.stack import Slice, Stack, StackOptions
from nephros.microscopy.tiff_series import MAX_PAGES, translate_read_errors
from nephros.microscopy.tiff_stack import open_tiff_stack
from nephros.microscopy.voxel_size import VoxelSize

_PLAIN_TAGS = frozenset({
    *range(254, 260), 262, 263, 266, 269, 270, 271, 272, 273, 274, 277, 278, 279, 280, 281, 282, 283, 284, 285, 286, 287, 296,
    297, 305, 306, 315, 316, 317, 320, 322, 323, 324, 325, 338, 339, 340, 341, 33432, 50838, 50839,
})  # fmt: skip
"""Tags of TIFF 6.0, and ImageJ's: those of other programs have parsers of their own."""
_MAX_PLAIN_VALUES, _MAX_PLAIN_SAMPLES, _MAX_PLAIN_TAG_BYTES = 1 << 28, 5, 64 << 20
"""Values of a page, its samples per pixel, and bytes of tags outside of the directories."""


def is_plain_tiff(path: Path) -> bool:
    """Return whether a TIFF file is certain to be opened and decoded in a time and memory that its size bounds.

    Raises:
        FileError: it has more pages, or its directories claim more, than such a file can hold.
    """
    claims = walk_file(path, MAX_PAGES)
    return (
        claims.is_whole
        and not claims.is_circular
        and claims.compressions <= CHEAP_COMPRESSIONS
        and claims.tag_numbers <= _PLAIN_TAGS
        and claims.max_page_values <= _MAX_PLAIN_VALUES
        and claims.max_samples <= _MAX_PLAIN_SAMPLES
        and claims.tag_bytes <= _MAX_PLAIN_TAG_BYTES
    )


def run_isolated(
    path: StackLocation, function: Callable[..., Iterable[Any]], *args: Any, timeout_s: float | None = None
) -> Generator[Any, None, None]:
    """Call a function in a process that can be killed, and yield what it yields.

    Args:
        path: the file or store that it reads.
        function: defined at the top level of a module of this package.
        args: its arguments.
        timeout_s: seconds for each item; None takes `DECODE_TIMEOUT_S`.

    Raises:
        FileError: an item takes too long or too much memory, or crashes a decoder; or as the function raised it.
    """
    budget = TimeBudget(DECODE_TIMEOUT_S if timeout_s is None else timeout_s)
    advice = "check the connection, or download it" if isinstance(path, StackUrl) else "save it again, uncompressed"
    too_slow = f"{path} takes more than {budget.seconds:g} seconds per slice to read; {advice}."
    try:
        with (
            translate_read_errors(path),
            contextlib.closing(
                read_isolated(path, function, *args, budget=budget, too_slow=too_slow),
            ) as items,
        ):
            for item in items:
                budget.left = budget.seconds
                yield item
    except FileError as error:
        error.path = path  # which comes back as text
        raise


def open_isolated_stack(
    path: Path, options: StackOptions, is_mask: bool, mask_of: tuple[int, int, int] | None = None
) -> Stack:
    """Open a TIFF file, or a microscope's; arguments and errors are those of `nephros.microscopy.reader.open_stack`."""
    format_key = microscope_format(path)
    if format_key:
        FORMATS[format_key].require()
    elif is_plain_tiff(path):
        return open_tiff_stack(path, options, is_mask, mask_of)
    choice = (
        str(path), options.channel, options.image, options.voxel_size, options.axes, options.level, options.time_point, is_mask,
        mask_of,
    )  # fmt: skip
    (facts,) = run_isolated(path, describe_in_worker, *choice)
    shape, dtype, channel, n_channels, voxel_size, image, notes, level, time_point, level_shapes, implausible = facts

    def slices() -> Iterator[Slice]:
        yield from run_isolated(path, slices_in_worker, *choice)

    return Stack(
        path, tuple(shape), np.dtype(dtype), channel, n_channels, voxel_size and tuple(voxel_size), slices, image, tuple(notes),
        level, time_point, tuple(map(tuple, level_shapes)), implausible_size=implausible,
    )  # fmt: skip


def describe_in_worker(*choice: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the fields of a stack as values that can be sent."""
    stack = _open_in_worker(*choice)
    yield (
        stack.shape, stack.dtype.str, stack.channel, stack.n_channels, stack.voxel_size, stack.image, stack.notes,
        stack.level, stack.time_point, stack.level_shapes, stack.implausible_size,
    )  # fmt: skip


def slices_in_worker(*choice: Any) -> Iterator[Slice]:
    """Yield the slices of a stack."""
    yield from _open_in_worker(*choice).slices()


def _open_in_worker(
    path: str,
    channel: int | str | None,
    image: int | str | None,
    voxel_size: VoxelSize | None,
    axes: str | None,
    level: int | str | None,
    time_point: int | None,
    is_mask: bool,
    mask_of: tuple[int, int, int] | None,
) -> Stack:
    options = StackOptions(channel, image, voxel_size, axes, level=level, time_point=time_point)
    shape = None if mask_of is None else (mask_of[0], mask_of[1], mask_of[2])
    if format_key := microscope_format(Path(path)):
        return open_microscope_stack(Path(path), format_key, options, is_mask, shape)
    return open_tiff_stack(Path(path), options, is_mask, shape)
