"""Detection of 3-D stacks from their headers, without tifffile, since most files are images and need nothing more."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Literal

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from nephros.data.image_decoding import PILLOW_FORMATS, strict_pillow_warnings
from nephros.data.input_files import TIFF_MAGIC, InputFile, read_bytes
from nephros.data.tiff_decoding import open_tags
from nephros.microscopy.ome import companion_text
from nephros.microscopy.sequence import image_names, names_are_numbered, names_mark_slices

MIN_TISSUE_SIDE = 256
"""Pixels per side from which the pages of a multi-page file show tissue and not single cells."""
HEADER_FIRST_BYTES = 64 << 20
"""Size in bytes from which a file's headers are checked before it is read as a whole."""
_MAX_PAGES_CHECKED = 16
"""Files with one page per cell have many thousands of pages."""
_TAG_WIDTH, _TAG_LENGTH, _TAG_DESCRIPTION, _TAG_DEPTH = 256, 257, 270, 32997


def read_bytes_unless_stack(path: InputFile) -> bytes | None:
    """Return a file's bytes, or None where it is a stack, or a folder. Of a large stack only the headers are read.

    Raises:
        FileError: as `nephros.data.input_files.read_bytes`.
    """
    disk_path = path if isinstance(path, Path) else None
    if disk_path and disk_path.is_dir():
        return None
    with contextlib.suppress(OSError, ValueError):  # read_bytes reports what is wrong
        if disk_path and disk_path.stat().st_size > HEADER_FIRST_BYTES:
            with disk_path.open("rb") as file:
                if is_stack(file, disk_path):
                    return None
    data = read_bytes(path)
    return None if data.startswith(TIFF_MAGIC) and is_stack(io.BytesIO(data), disk_path) else data


def is_stack(file: IO[bytes], path: Path | None = None) -> bool:
    """Return whether a file that is open for reading is a stack of slices, and not one image per page.

    It is a stack where the metadata of OME, ImageJ or tifffile give a Z axis of at least 2 slices, or where several pages have
    at least MIN_TISSUE_SIDE pixels on both sides. `path` is its path, if it has one: metadata may be in a file beside it. A file
    that can't be read is no stack: decoding it reports why.
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
                description = companion_text(str(tags.get(_TAG_DESCRIPTION, "")), path)
                if _n_slices(description) > 1 or tags.get(_TAG_DEPTH, 1) > 1:
                    return True
            n_large_pages += min(tags.get(_TAG_WIDTH, 0), tags.get(_TAG_LENGTH, 0)) >= MIN_TISSUE_SIDE
    except Exception:  # of changed bytes, every kind is raised
        pass
    return n_large_pages > 1


def slices_in_folder(folder: Path, names: Iterable[str]) -> Literal["yes", "unclear", "no"]:
    """Return whether the images in a folder are the slices of one stack.

    They are if they show tissue, being large, and their names mark slices, such as ``z001``; with only one of the two, or with
    numbers alone, it is unclear.
    """
    images, is_marked = image_names(names), names_mark_slices(names)
    if not is_marked and not names_are_numbered(images):
        return "no"
    try:
        with strict_pillow_warnings(), Image.open(folder / images[0], formats=PILLOW_FORMATS) as image:
            is_large = min(image.size) >= MIN_TISSUE_SIDE
    except Exception:  # of changed bytes, every kind is raised; reading the file reports why
        is_large = False
    return "yes" if is_marked and is_large else "unclear" if is_marked or is_large else "no"


def count_channels(data: bytes, path: Path | None = None) -> int:
    """Return how many channels of one image the pages of a TIFF file are by its metadata; 1 where they don't say so."""
    return _n_channels(_description(data, path))


def unexplained_pages(data: bytes) -> bool:
    """Return whether a TIFF file has several pages, and OME metadata that don't say what they are."""
    description = _description(data, None)
    return _is_ome(description) and not re.search(r"\bSize[ZCT]\s*=", description) and _n_pages_up_to_two(data) > 1


def _description(data: bytes, path: Path | None) -> str:
    """Return the description of a TIFF file's first page, or the companion file that it points to; empty if it has none."""
    tags = _first_page_tags(data)
    return "" if tags is None else companion_text(str(tags.get(_TAG_DESCRIPTION, "")), path)


def _n_pages_up_to_two(data: bytes) -> int:
    tags = _first_page_tags(data)
    return 0 if tags is None else 1 + bool(tags.next)


def _first_page_tags(data: bytes) -> ImageFileDirectory_v2 | None:
    """Return the tags of a TIFF file's first page, with the offset of the next one; None where it is no TIFF file."""
    if not data.startswith(TIFF_MAGIC):
        return None
    try:
        tags = open_tags(data[: 16 if b"+" in data[2:4] else 8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
    except Exception:  # of changed bytes, every kind is raised
        return None
    return tags


def _is_ome(description: str) -> bool:
    return "<OME" in description or ":OME" in description


def _n_channels(description: str) -> int:
    """Return the length of the C axis in the description of the first page, or 1 where there is none."""
    sizes: list[str] = []
    samples = 1
    if _is_ome(description):
        sizes = re.findall(r"\bSizeC\s*=\s*[\"']\s*(\d{1,9})", description)
        samples = max(map(int, re.findall(r"\bSamplesPerPixel\s*=\s*[\"']\s*(\d{1,9})", description)), default=1)
    elif description.startswith(("ImageJ=", "SCIFIO=")):
        sizes = re.findall(r"^channels=(\d{1,9})", description, re.MULTILINE)
    elif match := re.match(r'\{"shape": \[([\d, ]{1,99})\].*"axes": "(\w{1,32})"', description):  # tifffile's
        sizes = [size for axis, size in zip(match[2], match[1].split(","), strict=False) if axis == "C"]
    return max(map(int, sizes), default=1) // max(1, samples)


def _n_slices(description: str) -> int:
    """Return the length of the Z axis in the description of the first page, or 1 where there is none."""
    if _is_ome(description):
        sizes = re.findall(r"\bSizeZ\s*=\s*[\"']\s*(\d{1,9})", description)
    elif description.startswith(("ImageJ=", "SCIFIO=")):
        sizes = re.findall(r"^slices=(\d{1,9})", description, re.MULTILINE)
    elif match := re.match(r'\{"shape": \[([\d, ]{1,99})\].*"axes": "(\w{1,32})"', description):  # tifffile's
        sizes = [size for axis, size in zip(match[2], match[1].split(","), strict=False) if axis == "Z"]
    else:
        sizes = []
    return max(map(int, sizes), default=1)
