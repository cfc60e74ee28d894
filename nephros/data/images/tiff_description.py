"""What the pages of a TIFF file are, by the description of the first one: in the words of OME, ImageJ or tifffile."""

from __future__ import annotations

import re
from typing import Any

from nephros.data.images.tiff_decoding import first_page_tags

VOLUME_SHAPE = (7, 32, 32)
"""Slices, rows and columns of the volumes of BBBC051, from which TissueMNIST was made."""
_MAX_SLICES = 256
SIGN_OFFSET = 1 << 15
SIGNED_NOTE = "32,768 subtracted, which ImageJ adds to signed 16-bit pixels"
TAG_WIDTH, TAG_LENGTH, TAG_DESCRIPTION = 256, 257, 270
_TIFFFILE_AXES = r'\{"shape": \[(\d{1,9}(?:, ?\d{1,9}){0,31})\].*"axes": "(\w{1,32})"'


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


def imagej_offset(description: str) -> int:
    """Return what ImageJ added to signed 16-bit pixels to store them without a sign, 32768; else 0.

    Its calibration says so: a straight line (cf=0) of slope 1 through -32768.
    """
    if not description.startswith("ImageJ="):
        return 0
    calibration = dict(re.findall(r"^(cf|c0|c1)=(-?\d{1,9}(?:\.\d{0,9})?)(?!\S)", description, re.MULTILINE))
    is_signed = [float(calibration.get(key, "nan")) for key in ("cf", "c0", "c1")] == [0, -SIGN_OFFSET, 1]
    return SIGN_OFFSET if is_signed else 0


def is_nucleus_page(tags: Any) -> bool:
    """Return whether the first page of a TIFF file, by its tags, is a slice of one nucleus by the file's own Z axis."""
    description = str(tags.get(TAG_DESCRIPTION, ""))
    is_crop = (tags.get(TAG_LENGTH, 0), tags.get(TAG_WIDTH, 0)) == VOLUME_SHAPE[1:]
    return is_crop and 2 <= count_slices(description) <= _MAX_SLICES and count_channels_in(description) == 1


def volume_note(data: bytes, n_pages: int) -> str:
    """Return how the pages of a TIFF file become one image, if they are the slices of one nucleus; else nothing.

    They are where its pages have 32x32 pixels and it states a Z axis, or, as a guess, where it has seven such pages and doesn't
    say what they are.
    """
    tags = first_page_tags(data) if 2 <= n_pages <= _MAX_SLICES else None
    if tags is None:
        return ""
    description = str(tags.get(TAG_DESCRIPTION, ""))
    size = (n_pages, tags.get(TAG_LENGTH, 0), tags.get(TAG_WIDTH, 0))
    if is_nucleus_page(tags) and count_slices(description) == n_pages:
        return f"{n_pages} slices of one nucleus projected (maximum)"
    is_unexplained = all(axis_length(description, axis) == 1 for axis in "ZCT")
    if size == VOLUME_SHAPE and is_unexplained:
        return (
            "7 pages of 32x32 pixels taken for the slices of one nucleus, as in BBBC051, and projected (maximum); save cells as "
            "files of their own"
        )
    return ""
