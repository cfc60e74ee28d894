"""Volumes of one nucleus, such as the 32x32x7 voxels of BBBC051, which become one image by their maximum over the slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.decoded_image import DecodedImage
from nephros.data.tiff_decoding import first_page_tags
from nephros.data.tiff_description import (
    TAG_DESCRIPTION,
    TAG_LENGTH,
    TAG_WIDTH,
    axis_length,
    count_channels_in,
    count_slices,
)

VOLUME_SHAPE = (7, 32, 32)
"""Slices, rows and columns of the volumes of BBBC051, from which TissueMNIST was made."""
_MAX_SLICES = 256


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


def project_pages(pages: Sequence[DecodedImage], note: str) -> DecodedImage:
    """Return the maximum over the slices of a nucleus; raise ValueError where they are not gray and alike."""
    slices = np.stack([page.pixels for page in pages])
    if slices.ndim != 3:
        raise ValueError("slices of a nucleus are gray")
    notes = dict.fromkeys(text for page in pages for text in page.notes)
    return replace(pages[0], pixels=slices.max(axis=0), layout="gray", notes=(*notes, note))


def project_voxels(voxels: NDArray[Any]) -> NDArray[Any]:
    """Return (n, 32, 32) maxima of (n, 7168) voxels, whose column changes fastest and whose slice slowest."""
    maxima: NDArray[Any] = voxels.reshape(-1, *VOLUME_SHAPE).max(axis=1)
    return maxima
