"""Regions of ImageJ's ROI manager, a zip archive of .roi files, as the mask of a stack."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import FileError, require_extra
from nephros.microscopy.isolated_stack import run_isolated
from nephros.microscopy.stack import Slice, Stack
from nephros.reading import check_is_file

_MAX_REGIONS, _MAX_REGION_BYTES, _MAX_BYTES = 1_000_000, 1 << 24, 1 << 28
"""Regions in an archive, and bytes of each and of all when unpacked."""
_HEAD_BYTES = 300


def is_roi_archive(path: Path) -> bool:
    """Return whether a file is a zip archive whose first member is a .roi file."""
    try:
        check_is_file(path)
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, ValueError):  # whoever reads it reports what is wrong
        return False
    return head.startswith(b"PK\3\4") and head[30 : 30 + int.from_bytes(head[26:28], "little")].endswith(b".roi")


def open_roi_mask(path: Path, shape: tuple[int, int, int] | None) -> Stack:
    """Return the regions of an archive as a mask, of which each has an id, from 1 in the order of the archive.

    A region is in its own slice, and in every slice where it has none, as ImageJ shows it. Where two overlap, the later one
    has the pixels.

    Args:
        path: the archive.
        shape: of the stack.

    Raises:
        FileError: it is damaged or too large, has no regions with an area, or lies outside of the stack.
        MissingDependency: the extra `formats` is not installed.
    """
    with require_extra("Reading regions of ImageJ needs roifile: pip install 'nephros[formats]'.", "roifile"):
        import roifile  # noqa: F401
    if shape is None:
        raise FileError(path, f"{path} has regions of ImageJ, which are the mask of a stack; give it as `mask`.")
    ((n_areas, n_other, n_everywhere),) = run_isolated(path, describe_in_worker, str(path), list(shape))
    if not n_areas:
        raise FileError(
            path, f"{path} has no region with an area; save the outlines of the nuclei, not points or lines."
        )
    notes = [f"{path.name} has {n_areas:,} regions of ImageJ, each of which is a nucleus."]
    if shape[0] > 1 and n_everywhere < n_areas:
        notes = [
            f"{path.name} has {n_areas:,} regions of ImageJ, each in its slice; those of one nucleus in several slices are "
            "joined where `stitch_threshold` is set, such as to 0.25."
        ]
    if n_other:
        notes.append(f"{path.name} also has {n_other:,} points, lines or texts, which are left out.")
    if n_everywhere and shape[0] > 1:
        notes.append(f"{path.name} has {n_everywhere:,} regions without a slice, which are in every slice.")

    def slices() -> Iterator[Slice]:
        yield from run_isolated(path, slices_in_worker, str(path), list(shape))

    return Stack(path, shape, np.dtype(np.int32), 0, 1, None, slices, notes=tuple(notes))


def describe_in_worker(path: str, shape: list[int]) -> Iterator[list[int]]:
    """Yield the numbers of regions with an area, of others, and of those without a slice."""
    regions = _read_regions(Path(path))
    areas = [region for region in regions if _outlines(region)]
    for region in areas:
        slice_number = _slice_number(region)
        if (
            slice_number > shape[0]
            or region.top >= shape[1]
            or region.left >= shape[2]
            or min(region.bottom, region.right) <= 0
        ):
            raise FileError(
                path,
                f"{path} has the region {region.name[:80]!r} in slice {slice_number}, from row {region.top} and column "
                f"{region.left}, outside of the stack of {' x '.join(map(str, shape))} (z, y, x); give those of this stack.",
            )
    yield [len(areas), len(regions) - len(areas), sum(_slice_number(region) == 0 for region in areas)]


def slices_in_worker(path: str, shape: list[int]) -> Iterator[NDArray[np.int32]]:
    """Yield the slices of the mask."""
    regions = [region for region in _read_regions(Path(path)) if _outlines(region)]
    numbered: dict[int, list[tuple[int, Any]]] = {}
    for number, region in enumerate(regions, start=1):
        numbered.setdefault(_slice_number(region), []).append((number, region))
    for z in range(shape[0]):
        values = np.zeros(shape[1:], np.int32)
        for number, region in sorted(numbered.get(0, []) + numbered.get(z + 1, []), key=lambda item: item[0]):
            _draw(values, number, region)
        yield values


def _read_regions(path: Path) -> list[Any]:
    import roifile

    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".roi")]
        n_bytes = [member.file_size for member in members]
        if len(members) > _MAX_REGIONS or max(n_bytes, default=0) > _MAX_REGION_BYTES or sum(n_bytes) > _MAX_BYTES:
            raise FileError(path, f"{path} has {len(members):,} regions of {sum(n_bytes):,} bytes, which are too many.")
        return [roifile.ImagejRoi.frombytes(archive.read(member)) for member in members]


def _slice_number(region: Any) -> int:
    """Return the slice of a region, from 1; 0 for all."""
    return max(0, int(region.z_position or region.position or 0))


def _outlines(region: Any) -> list[NDArray[Any]]:
    """Return the corners of a region's parts, (n, 2) x and y; none where it has no area."""
    import roifile

    kind = roifile.ROI_TYPE
    if region.roitype == kind.OVAL:
        angles = np.linspace(0, 2 * np.pi, 361)[:-1]
        center = np.array([region.left + region.right, region.top + region.bottom]) / 2
        radii = np.array([region.right - region.left, region.bottom - region.top]) / 2
        return [center + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)]
    if region.roitype == kind.RECT or region.roitype in (kind.POLYGON, kind.FREEHAND, kind.TRACED):
        return [np.asarray(part, np.float64) for part in region.coordinates(multi=True) if len(part) > 2]
    return []


def _draw(values: NDArray[np.int32], number: int, region: Any) -> None:
    from skimage.draw import polygon2mask

    top, left = max(0, region.top), max(0, region.left)
    bottom, right = min(values.shape[0], region.bottom + 1), min(values.shape[1], region.right + 1)
    if bottom <= top or right <= left:
        return
    inside = np.zeros((bottom - top, right - left), np.bool_)
    for outline in _outlines(region):
        # ImageJ's corners are at the edges of pixels, whose centers are half a pixel further; a part within another is a hole.
        inside ^= polygon2mask(inside.shape, outline[:, ::-1] - 0.5 - (top, left))
    values[top:bottom, left:right][inside] = number
