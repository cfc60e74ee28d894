"""Whether a file is a 3-D stack, found from its headers by Pillow alone: most files that are asked about are pictures."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import IO

from PIL import TiffImagePlugin

from nephros.data.held import Held
from nephros.data.pictures import DAMAGE, read_bytes

TISSUE = 256
"""Pixels on both sides from which a page of several shows tissue and not a cell."""
_LOOKED_AT = 16
"""Pages: files with a page a cell have many thousands."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NEVER = (".png", ".jpg", ".jpeg")
_DESCRIPTION, _DEPTH = 270, 32997


def bytes_unless_stack(path: Path | Held) -> bytes | None:
    """Return a file's bytes, or None where it is a stack, of which headers alone are read if it is called a TIFF.

    UserError as `nephros.data.pictures.read_bytes` raises it.
    """
    if isinstance(path, Path) and path.suffix.lower() not in _NEVER and path.is_file():
        with contextlib.suppress(OSError), path.open("rb") as file:  # what can't be opened is told below
            if is_stack(file):
                return None
        return read_bytes(path)
    data = read_bytes(path)
    return None if data.startswith(_TIFF) and is_stack(io.BytesIO(data)) else data


def is_stack(file: IO[bytes]) -> bool:
    """Say whether a file that is open for reading is a stack of slices and not a page a cell.

    It is where OME's, ImageJ's or tifffile's metadata give a Z axis of 2 or more, or several pages are of TISSUE pixels on
    both sides. A file that can't be read is none: decoding it tells why.
    """
    if file.read(4) not in _TIFF:
        return False
    large = 0
    try:
        file.seek(0)
        # Not by Image.open, which refuses slices that are larger than any picture of a cell.
        with TiffImagePlugin.TiffImageFile(file) as image:
            if _slices(str(image.tag_v2.get(_DESCRIPTION, ""))) > 1 or image.tag_v2.get(_DEPTH, 1) > 1:
                return True
            for page in range(_LOOKED_AT):
                image.seek(page)
                large += min(image.size) >= TISSUE
    except DAMAGE:  # EOFError: there are no more pages
        pass
    return large > 1


def _slices(description: str) -> int:
    """Return how long the Z axis is by what a program wrote into the first page, 1 where it doesn't say."""
    if "<OME" in description or ":OME" in description:
        found = re.findall(r"\bSizeZ\s*=\s*[\"']\s*(\d{1,9})", description)
    elif description.startswith(("ImageJ=", "SCIFIO=")):
        found = re.findall(r"^slices=(\d{1,9})", description, re.MULTILINE)
    elif match := re.match(r'\{"shape": \[([\d, ]{1,99})\].*"axes": "(\w{1,32})"', description):  # tifffile's
        found = [size for axis, size in zip(match[2], match[1].split(","), strict=False) if axis == "Z"]
    else:
        found = []
    return max(map(int, found), default=1)
