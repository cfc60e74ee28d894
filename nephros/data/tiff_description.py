"""What the description of a TIFF file's first page says its pages are, in the words of OME, ImageJ or tifffile."""

from __future__ import annotations

import io
import re

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from nephros.data.input_files import TIFF_MAGIC
from nephros.data.tiff_decoding import open_tags

TAG_WIDTH, TAG_LENGTH, TAG_DESCRIPTION = 256, 257, 270
_TIFFFILE_AXES = r'\{"shape": \[([\d, ]{1,99})\].*"axes": "(\w{1,32})"'


def first_page_tags(data: bytes) -> ImageFileDirectory_v2 | None:
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


def is_ome(description: str) -> bool:
    """Return whether a description is OME-XML."""
    return "<OME" in description or ":OME" in description


def axis_length(description: str, axis: str) -> int:
    """Return the length of the axis Z, C or T by a description; 1 where it names none."""
    if is_ome(description):
        sizes = re.findall(rf"\bSize{axis}\s*=\s*[\"']\s*(\d{{1,9}})", description)
    elif description.startswith(("ImageJ=", "SCIFIO=")):
        key = {"Z": "slices", "C": "channels", "T": "frames"}[axis]
        sizes = re.findall(rf"^{key}=(\d{{1,9}})", description, re.MULTILINE)
    elif match := re.match(_TIFFFILE_AXES, description):
        sizes = [size for name, size in zip(match[2], match[1].split(","), strict=False) if name == axis]
    else:
        sizes = []
    return max(map(int, sizes), default=1)


def count_slices(description: str) -> int:
    """Return the length of the Z axis; 1 where there is none."""
    return axis_length(description, "Z")


def count_channels_in(description: str) -> int:
    """Return the length of the C axis, without the samples of a color; 1 where there is none."""
    samples = 1
    if is_ome(description):
        samples = max(map(int, re.findall(r"\bSamplesPerPixel\s*=\s*[\"']\s*(\d{1,9})", description)), default=1)
    return axis_length(description, "C") // max(1, samples)
