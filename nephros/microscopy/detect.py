"""Detection of 3-D stacks from their headers, without tifffile, since most files are images and need nothing more."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
from pathlib import Path
from typing import IO, Literal

from PIL import Image

from nephros.data.images.decoding import MAX_PAGES, PILLOW_FORMATS, strict_pillow_warnings
from nephros.data.images.tiff_decoding import first_page_tags, open_tags
from nephros.data.images.tiff_description import (
    TAG_DESCRIPTION,
    TAG_LENGTH,
    TAG_WIDTH,
    count_channels_in,
    count_slices,
    is_nucleus_page,
    is_ome,
)
from nephros.data.images.tiff_directories import walk_directories, walk_file
from nephros.data.input_files import TIFF_MAGIC, InputFile, read_bytes
from nephros.microscopy.formats.registry import format_of_head, microscope_format
from nephros.microscopy.ome import companion_text
from nephros.microscopy.sequence import may_mark_slice, slice_naming
from nephros.microscopy.zarr_files import ZIP_MAGIC, is_zarr_zip

MIN_TISSUE_SIDE = 256
"""Pixels per side from which the pages of a multi-page file show tissue and not single cells."""
HEADER_FIRST_BYTES = 64 << 20
"""Size in bytes from which a file's headers are checked before it is read as a whole."""
_MAX_PAGES_CHECKED = 16
"""Files with one page per cell have many thousands of pages."""
_TAG_DEPTH, _TAG_METAMORPH_PLANES = 32997, 33629
"""Slices of a page, and MetaMorph's tag with an entry per plane."""


def read_bytes_unless_stack(path: InputFile) -> bytes | None:
    """Return a file's bytes, or None where it is a stack, a Zarr store or a folder. Of a large stack only the headers are read.

    Raises:
        FileError: as `nephros.data.input_files.read_bytes`, or a TIFF file's tags claim more than the file holds.
    """
    disk_path = path if isinstance(path, Path) else None
    status = _regular_file_status(disk_path)
    if disk_path and status is None and (disk_path.is_dir() or is_zarr_zip(disk_path)):
        return None
    with contextlib.suppress(OSError, ValueError):  # read_bytes reports what is wrong
        if disk_path and status and status.st_size > HEADER_FIRST_BYTES:
            if is_zarr_zip(disk_path) or microscope_format(disk_path):
                return None
            walk_file(disk_path, MAX_PAGES, first_pages=_MAX_PAGES_CHECKED)
            with disk_path.open("rb") as file:
                if is_stack(file, disk_path):
                    return None
    data = read_bytes(path, status)
    if disk_path and ((data.startswith(ZIP_MAGIC) and is_zarr_zip(disk_path)) or format_of_head(data, disk_path)):
        return None
    if data.startswith(TIFF_MAGIC):  # libraries read whatever tags claim
        walk_directories(path, data, MAX_PAGES, first_pages=_MAX_PAGES_CHECKED)
    return None if data.startswith(TIFF_MAGIC) and is_stack(io.BytesIO(data), disk_path) else data


def _regular_file_status(path: Path | None) -> os.stat_result | None:
    """Return the status of a regular file; None for anything else."""
    try:
        status = None if path is None else os.stat(path)
    except (OSError, ValueError):
        return None
    return status if status is not None and stat.S_ISREG(status.st_mode) else None


def is_stack(file: IO[bytes], path: Path | None = None) -> bool:
    """Return whether a file that is open for reading is a stack of slices, and not one image per page.

    It is a stack where the metadata of OME, ImageJ, tifffile or MetaMorph give at least 2 slices, or where several pages have
    at least MIN_TISSUE_SIDE pixels on both sides; a volume of one nucleus is none. `path` is its path, if it has one: metadata
    may be in a file beside it. A file that can't be read is not a stack: decoding it reports why.
    """
    header = file.read(8)
    if not header.startswith(TIFF_MAGIC):
        return False
    if b"+" in header[2:4]:  # BigTIFF
        header += file.read(8)
    n_large_pages = 0
    try:
        # Only the tags are read: opening an image would fail for pixels that Pillow can't decode or that exceed its limit.
        tags = open_tags(header)
        for page in range(_MAX_PAGES_CHECKED):
            if not tags.next:
                break
            file.seek(tags.next)
            tags.load(file)
            if page == 0:
                if is_nucleus_page(tags):
                    return False
                description = companion_text(str(tags.get(TAG_DESCRIPTION, "")), path)
                has_planes = isinstance(tags.get(_TAG_METAMORPH_PLANES), tuple)  # of a single entry it is no tuple
                if has_planes or count_slices(description) > 1 or tags.get(_TAG_DEPTH, 1) > 1:
                    return True
            n_large_pages += min(tags.get(TAG_WIDTH, 0), tags.get(TAG_LENGTH, 0)) >= MIN_TISSUE_SIDE
    except Exception:  # of changed bytes, every kind is raised
        pass
    return n_large_pages > 1


def slices_in_folder(
    folder: Path, images: list[str], *, expects_stack: bool = False
) -> Literal["yes", "unclear", "no"]:
    """Return whether the images in a folder, as of `nephros.microscopy.sequence.image_names`, are the slices of one stack.

    They are if they show tissue, being large, and their names mark slices, such as ``z001``; with only one of the two, or with
    numbers alone, it is unclear, and they are where the user `expects_stack`. Numbered files of several pages are stacks each.
    """
    if not images:
        return "no"
    has_pages = False
    try:
        with strict_pillow_warnings(), Image.open(folder / images[0], formats=PILLOW_FORMATS) as image:
            is_large, has_pages = min(image.size) >= MIN_TISSUE_SIDE, getattr(image, "is_animated", False)
    except Exception:  # of changed bytes, every kind is raised; reading the file reports why
        is_large = False
    if not is_large and not may_mark_slice(images[0]):  # the names of many small images need not be compared
        return "no"
    naming = slice_naming(images)
    if naming == "none" or (naming == "numbered" and (has_pages or not is_large)):
        return "no"
    return "yes" if expects_stack or (naming == "marked" and is_large) else "unclear"


def count_channels(data: bytes, path: Path | None = None) -> int:
    """Return how many channels of one image the pages of a TIFF file are by its metadata; 1 where they don't say so."""
    return count_channels_in(_description(data, path))


def unexplained_pages(data: bytes) -> bool:
    """Return whether a TIFF file has several pages, and OME metadata that don't say what they are."""
    description = _description(data, None)
    tags = first_page_tags(data)
    return is_ome(description) and not re.search(r"\bSize[ZCT]\s*=", description) and bool(tags and tags.next)


def _description(data: bytes, path: Path | None) -> str:
    """Return the description of a TIFF file's first page, or the companion file that it points to; empty if it has none."""
    tags = first_page_tags(data)
    return "" if tags is None else companion_text(str(tags.get(TAG_DESCRIPTION, "")), path)
