"""Image pyramids in TIFF files: which of their pages are the levels of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tifffile import TiffPageSeries

_UNNAMED = frozenset("QI")
"""tifffile's letters for a dimension of pages without a name."""


def fold_levels(series: Sequence[TiffPageSeries]) -> list[TiffPageSeries]:
    """Return the images of a file, where series that a file marks as reduced count as levels of the image before them.

    tifffile itself does that for single slices, and for pages without its metadata.
    """
    images: list[TiffPageSeries] = []
    for item in series:
        if images and item.keyframe.is_reduced and len(item.levels) == 1 and _is_coarser(item, images[-1].levels[-1]):
            images[-1].levels.append(item)
        else:
            images.append(item)
    return images


def level_series(series: TiffPageSeries) -> list[TiffPageSeries]:
    """Return the levels of an image, the finest first, up to one that can't be a coarser version of the one before it."""
    levels = [series]
    for level in series.levels[1:]:
        if not _is_coarser(level, levels[-1]):
            break
        levels.append(level)
    return levels


def _is_coarser(level: TiffPageSeries, finer: TiffPageSeries) -> bool:
    """Return whether a series has fewer rows or columns than another, at most as many slices, and is else the same."""
    if level.dtype != finer.dtype or len(level.shape) != len(finer.shape):
        return False
    pairs = list(zip(finer.axes, level.axes, finer.shape, level.shape, strict=True))
    has_same_axes = all(axis == other or other in _UNNAMED for axis, other, _, _ in pairs)
    is_reduced = [size < finer_size for axis, _, finer_size, size in pairs if axis in "YX"]
    return (
        has_same_axes
        and any(is_reduced)
        and all(size == finer_size or (size < finer_size and axis in "ZYX") for axis, _, finer_size, size in pairs)
    )


def n_top_pages(levels: Sequence[TiffPageSeries]) -> int:
    """Return how many pages of a file's own chain the levels of an image take; SubIFDs are not in it."""
    return sum(level.size // max(1, level.keyframe.size) for level in levels if not level.keyframe.is_subifd)
