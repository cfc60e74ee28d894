"""Whether a file is a 3-D stack, found from its headers by Pillow alone: most files that are asked about are pictures."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import IO

from PIL import TiffImagePlugin

from nephros.data.image_decoding import DECODE_ERRORS, read_bytes
from nephros.data.in_memory_file import InMemoryFile

MIN_TISSUE_SIDE = 256
"""Pixels on both sides from which a page of several shows tissue and not a cell."""
HEADER_FIRST_BYTES = 64 << 20
"""Bytes from which a file is looked at before it is read whole."""
_MAX_PAGES_CHECKED = 16
"""Pages: files with a page a cell have many thousands."""
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TAG_WIDTH, _TAG_LENGTH, _TAG_DESCRIPTION, _TAG_DEPTH = 256, 257, 270, 32997


def read_bytes_unless_stack(path: Path | InMemoryFile) -> bytes | None:
    """Return a file's bytes, or None where it is a stack, of which only headers are read if it is LARGE.

    UserError as `nephros.data.image_decoding.read_bytes` raises it.
    """
    with contextlib.suppress(OSError, ValueError):  # read_bytes tells what is wrong
        if isinstance(path, Path) and path.stat().st_size > HEADER_FIRST_BYTES:
            with path.open("rb") as file:
                if is_stack(file):
                    return None
    data = read_bytes(path)
    return None if data.startswith(_TIFF_MAGIC) and is_stack(io.BytesIO(data)) else data


def is_stack(file: IO[bytes]) -> bool:
    """Say whether a file that is open for reading is a stack of slices and not a page a cell.

    It is where OME's, ImageJ's or tifffile's metadata give a Z axis of 2 or more, or several pages are of TISSUE pixels on
    both sides. A file that can't be read is none: decoding it tells why.
    """
    header = file.read(8)
    if not header.startswith(_TIFF_MAGIC):
        return False
    if b"+" in header[2:4]:  # BigTIFF
        header += file.read(8)
    n_large_pages = 0
    try:
        # The tags alone: an image would also need pixels that Pillow can read, and not more than of any picture of a cell.
        tags = TiffImagePlugin.ImageFileDirectory_v2(header)
        for page in range(_MAX_PAGES_CHECKED):
            if not tags.next:
                break
            file.seek(tags.next)
            tags.load(file)
            if page == 0 and (_n_slices(str(tags.get(_TAG_DESCRIPTION, ""))) > 1 or tags.get(_TAG_DEPTH, 1) > 1):
                return True
            n_large_pages += min(tags.get(_TAG_WIDTH, 0), tags.get(_TAG_LENGTH, 0)) >= MIN_TISSUE_SIDE
    except DECODE_ERRORS:
        pass
    return n_large_pages > 1


def _n_slices(description: str) -> int:
    """Return how long the Z axis is by what a program wrote into the first page, 1 where it doesn't say."""
    if "<OME" in description or ":OME" in description:
        sizes = re.findall(r"\bSizeZ\s*=\s*[\"']\s*(\d{1,9})", description)
    elif description.startswith(("ImageJ=", "SCIFIO=")):
        sizes = re.findall(r"^slices=(\d{1,9})", description, re.MULTILINE)
    elif match := re.match(r'\{"shape": \[([\d, ]{1,99})\].*"axes": "(\w{1,32})"', description):  # tifffile's
        sizes = [size for axis, size in zip(match[2], match[1].split(","), strict=False) if axis == "Z"]
    else:
        sizes = []
    return max(map(int, sizes), default=1)
