"""A project's own copy of a stack, in 8 bits, and of its mask: OME-TIFF files of which single slices are read."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.project_file import StackSource
from nephros.errors import FileError
from nephros.files import sync_folder
from nephros.microscopy.class_labels import stack_stem
from nephros.microscopy.located import LocatedNuclei
from nephros.microscopy.location import locate
from nephros.microscopy.reader import open_stack
from nephros.microscopy.segmenters import method_of
from nephros.microscopy.stack import Slice, Stack
from nephros.microscopy.tiff_series import require_stacks_extra, translate_read_errors
from nephros.tissue.ome_images import ome_dtype, write_ome_image

STACKS_FOLDER = "stacks"
INTENSITY_FILE, MASK_FILE = "intensity.ome.tif", "mask.ome.tif"
_BLACK_PERCENTILE, _WHITE_PERCENTILE = 1.0, 99.9
"""Percentiles of a stack's voxels that become 0 and 255 in its copy."""
_MAX_SAMPLED_SLICES, _SAMPLING_STEP = 16, 4
"""Slices, and every how many rows and columns of them, from which the percentiles are found."""


def copy_stack(root: Path, located: LocatedNuclei, others: Iterable[StackSource], n_cells: int) -> StackSource:
    """Write a stack in 8 bits and its mask below a project folder, and return what project.json says of it.

    Raises:
        FileError: stack or mask can't be read any more.
        OSError: the files can't be written.
    """
    stack, mask = located.open()
    names = {source.name for source in others}
    stem = stack_stem(located.path)
    name = next(text for text in _numbered(stem) if text not in names)
    folder = f"{STACKS_FOLDER}/{name}"
    shutil.rmtree(root / folder, ignore_errors=True)  # of an addition that was cut off
    (root / folder).mkdir(parents=True)
    voxel_size = located.voxel_size
    write_ome_image(
        root / folder / INTENSITY_FILE,
        _iter_8bit(stack),
        stack.shape,
        np.dtype(np.uint8),
        voxel_size,
        name=name,
        channel="nuclei",
    )
    dtype = ome_dtype(mask.dtype, int(located.nuclei.ids.max()))
    write_ome_image(root / folder / MASK_FILE, mask.slices(), mask.shape, dtype, voxel_size, name=name, channel="mask")
    sync_folder(root / folder)
    return StackSource(
        path=located.display_path,
        name=name,
        channel=stack.channel,
        shape=stack.shape,
        voxel_size=voxel_size,
        mask=method_of(located.options.segment)
        if located.mask_file.is_automatic
        else str(locate(located.mask_file.path)),
        folder=folder,
        n_cells=n_cells,
        level_step=stack.level_step,
    )


def read_window(path: Path, planes: Iterable[int], top: int, bottom: int, left: int, right: int) -> NDArray[np.generic]:
    """Return a window of some slices of a copy, (slices, rows, columns), reading no more of the file than it needs.

    Raises:
        FileError: the file is missing or damaged.
    """
    with require_stacks_extra():
        import tifffile
    if not path.is_file():
        raise FileError(path, f"{path} is missing; restore it from a copy of the project.")
    with translate_read_errors(path), tifffile.TiffFile(path) as tif:
        return np.stack([_read_rows(tif.pages[z], top, bottom)[:, left:right] for z in planes])


def open_mask(root: Path, source: StackSource) -> Stack:
    """Open the mask of a stack of a project."""
    return open_stack(root / source.folder / MASK_FILE, is_mask=True)


def _read_rows(page, top: int, bottom: int) -> NDArray[np.generic]:  # type: ignore[no-untyped-def]
    """Return some rows of a page, decoding only the strips that they are in."""
    page = page.aspage()
    rows_per_strip = page.rowsperstrip
    first, last = top // rows_per_strip, (bottom - 1) // rows_per_strip
    indices = list(range(first, last + 1))
    offsets = [page.dataoffsets[index] for index in indices]
    counts = [page.databytecounts[index] for index in indices]
    strips = []
    for data, index in page.parent.filehandle.read_segments(offsets, counts, indices=indices, sort=False):
        strip, _, _ = page.decode(data, index)
        if strip is None:
            raise ValueError("an empty strip")
        strips.append((index, strip[0, :, :, 0]))
    rows = np.concatenate([strip for _, strip in sorted(strips, key=lambda item: item[0])])
    return rows[top - first * rows_per_strip : bottom - first * rows_per_strip]


def _iter_8bit(stack: Stack) -> Iterator[NDArray[np.uint8]]:
    """Yield the slices in 8 bits, as bright as people see them best; slices of 8 bits as they are."""
    if stack.dtype == np.uint8:
        yield from stack.slices()
        return
    black, white = _display_levels(stack)
    for values in stack.slices():
        scaled = (values.astype(np.float32) - black) * (255 / (white - black))
        yield np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _display_levels(stack: Stack) -> tuple[float, float]:
    step = max(1, stack.shape[0] // _MAX_SAMPLED_SLICES)
    samples: list[Slice] = [
        values[::_SAMPLING_STEP, ::_SAMPLING_STEP].ravel() for z, values in enumerate(stack.slices()) if z % step == 0
    ]
    black, white = np.percentile(np.concatenate(samples).astype(np.float64), (_BLACK_PERCENTILE, _WHITE_PERCENTILE))
    return float(black), float(max(white, black + 1e-6))


def _numbered(stem: str) -> Iterator[str]:
    """Yield the name of a stack, and then the same with numbers, as names of folders."""
    safe = "".join(char if char.isalnum() or char in "-_. " else "_" for char in stem).strip(". ")[:80] or "stack"
    yield safe
    number = 2
    while True:
        yield f"{safe}-{number}"
        number += 1
