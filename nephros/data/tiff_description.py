"""What the description of a TIFF file's first page says its pages are, in the words of OME, ImageJ or tifffile."""

from __future__ import annotations

import re

TAG_WIDTH, TAG_LENGTH, TAG_DESCRIPTION = 256, 257, 270
_TIFFFILE_AXES = r'\{"shape": \[([\d, ]{1,99})\].*"axes": "(\w{1,32})"'


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
