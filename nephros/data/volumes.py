"""Volumes of cells: how those of an array become a data set's, whose slices stand last, and how a figure displays one.

A volume's slices stand where the colors of an image do, (n, h, w, d), so that batches, shifts, flips and quarter-turns of the
plane are the same for both. Only `Dataset.is_volumetric`, a run's `input_spec` and a model's card tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nephros.data.images.input_conversion import MIN_SIDE, BrightestPixel, default_white_level
from nephros.data.images.transforms import to_uint8
from nephros.errors import InvalidArgument

EXPECTED_VOLUMES = f"volumes (n, d, h, w) of at least 2 slices of {MIN_SIDE}x{MIN_SIDE} pixels, of numbers from 0"
_TILE_ROWS = 3
"""Tiles per row and column of a displayed volume: up to eight slices, and their maximum."""


def n_planes(spec: Mapping[str, Any]) -> int:
    """Return the planes p of cells (n, p, h, w) that a run's ``input_spec`` or a card's ``input`` describes.

    These are the channels of images and the slices of volumes, whose description has a ``depth``.
    """
    return int(spec.get("depth") or spec["channels"])


def slices_last(volumes: NDArray[Any]) -> NDArray[Any]:
    """Return volumes (n, d, h, w) as (n, h, w, d), a view."""
    return np.moveaxis(volumes, 1, 3)


def read_volumes(
    volumes: Any, parameter: str, white_level: float | None = None, black_level: float = 0.0
) -> NDArray[np.uint8]:
    """Return volumes (n, d, h, w) of a caller as (n, h, w, d) uint8.

    Pixels of other types are scaled so that `white_level` or, without it, the brightest voxel of all, or 1 for floating-point
    voxels up to 1, becomes 255, and `black_level` 0.

    Raises:
        InvalidArgument: these are not volumes; names `parameter`.
    """
    array = np.asarray(volumes)
    is_numeric = array.dtype.kind in "buif" and array.ndim == 4
    if not is_numeric or array.shape[1] < 2 or min(array.shape[2:]) < MIN_SIDE:
        raise InvalidArgument(parameter, f"{array.dtype} of shape {array.shape}", EXPECTED_VOLUMES)
    if array.dtype == np.bool_:
        return slices_last(array.astype(np.uint8) * np.uint8(255))
    if array.dtype == np.uint8 or not array.size:
        return slices_last(array.astype(np.uint8, copy=False))
    if not np.isfinite(array).all() or array.min() < 0:
        raise InvalidArgument(parameter, "negative or not finite voxels", EXPECTED_VOLUMES)
    return to_uint8(
        slices_last(array), white_level or default_white_level(BrightestPixel.of(array), array.dtype), black_level
    )


def slices_tile(volume: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a volume (h, w, d) as one grayscale image: up to eight slices from first to last, and at last their maximum.

    The tiles stand in three rows of three, (3h + 2, 3w + 2) uint8, with gaps of one pixel; those that are left over are black.
    """
    height, width, depth = volume.shape
    n_slices = min(depth, _TILE_ROWS**2 - 1)
    indices = np.unique(np.rint(np.linspace(0, depth - 1, n_slices)).astype(int))
    tile = np.zeros((_TILE_ROWS * (height + 1) - 1, _TILE_ROWS * (width + 1) - 1), dtype=np.uint8)
    planes = [
        *(volume[..., index] for index in indices),
        *[None] * (_TILE_ROWS**2 - 1 - len(indices)),
        volume.max(axis=2),
    ]
    for number, plane in enumerate(planes):
        if plane is not None:
            top, left = (number // _TILE_ROWS) * (height + 1), (number % _TILE_ROWS) * (width + 1)
            tile[top : top + height, left : left + width] = plane
    return tile


class IndexedImages(Protocol):
    """Images that figures read one by one."""

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        """Return an image (h, w) or (h, w, 3)."""
        ...


class SlicesTiles:
    """Volumes (n, h, w, d) as images that figures display, each made by `slices_tile` when it is read."""

    def __init__(self, volumes: NDArray[np.uint8]) -> None:
        self._volumes = volumes

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        return slices_tile(self._volumes[index])


def tile_heatmap(heatmap: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a heatmap of the plane, (h', w'), for each tile of `slices_tile`."""
    return np.tile(heatmap, (_TILE_ROWS, _TILE_ROWS))
