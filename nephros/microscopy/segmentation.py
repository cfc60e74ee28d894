"""Automatic segmentation of a stack without a mask: Otsu's threshold, then a watershed of the distance to the background.

Memory stays bounded: the channel is copied to a temporary file beside the result and processed tile by tile, with a margin
around each. A nucleus belongs to the tile that contains its centroid.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import FileError
from nephros.microscopy.crops import N_BINS, bin_indices
from nephros.microscopy.measurements import BLOCK_PIXELS
from nephros.microscopy.nuclei import ProgressTracker
from nephros.microscopy.stack import Slice, Stack
from nephros.microscopy.tiff_series import require_stacks_extra
from nephros.microscopy.voxel_size import VoxelSize

METHOD = "Otsu threshold of the whole stack, then watershed of the distance transform (scikit-image)"
"""The method, for people."""

TILE_SHAPE = (48, 256, 256)
"""Tile size in voxels, without the margin."""
MARGIN_UM = 8.0
"""Margin around a tile in micrometers, more than a nucleus's radius."""
SMOOTHING_SIGMA_UM = 0.6
"""Standard deviation of the Gaussian filter before the threshold, in micrometers."""
MIN_SEED_DISTANCE_UM = 2.5
"""Smallest distance between two seeds of the watershed, in micrometers; of two that are closer one is dropped."""
MIN_VOLUME_UM3, MAX_VOLUME_UM3 = 15.0, 4000.0
"""Range of volumes that are kept, in cubic micrometers; a nucleus 7 micrometers across has 180."""
TARGET_PIXEL_UM = 1.0
"""Pixel size in micrometers to which smaller pixels are averaged first, in whole blocks.

Centroids then differ by less than 0.2 micrometers from those at a pixel size of 0.5.
"""


def segment_nuclei(
    stack: Stack,
    target: Path,
    voxel_size: VoxelSize,
    *,
    progress: ProgressTracker = lambda items, description, total: items,
) -> int:
    """Segment the nuclei of a stack, write the mask, and return the number of nuclei.

    Args:
        stack: the stack.
        target: path of the mask, a TIFF file with uint16 or int32 pages.
        voxel_size: of the stack, in micrometers along z, y and x.
        progress: shows the progress.

    Raises:
        FileError: nothing in the stack stands out from its background, or its intensities are not numbers.
    """
    bin_factor = max(1, int(TARGET_PIXEL_UM / min(voxel_size[1:]) + 0.5))
    binned_voxel_size = (voxel_size[0], voxel_size[1] * bin_factor, voxel_size[2] * bin_factor)
    binned_shape = (stack.shape[0], -(-stack.shape[1] // bin_factor), -(-stack.shape[2] // bin_factor))
    with (
        require_stacks_extra(),
        tempfile.TemporaryFile(dir=target.parent) as pixels_file,
        tempfile.TemporaryFile(dir=target.parent) as mask_file,
    ):
        pixels = _DiskVolume(pixels_file, binned_shape, np.dtype(np.float32 if bin_factor > 1 else stack.dtype))
        intensity_range = _copy_binned(
            progress(stack.slices(), "Reading the stack", binned_shape[0]), pixels, bin_factor
        )
        if not np.isfinite(intensity_range).all():
            raise FileError(
                stack.path, f"{stack.path} has intensities that are not numbers (NaN or infinite); correct them."
            )
        if intensity_range[0] == intensity_range[1]:
            raise FileError(stack.path, f"{stack.path} shows nothing: every voxel is {intensity_range[0]:g}.")
        threshold = _otsu_threshold(pixels, intensity_range)
        mask = _DiskVolume(mask_file, binned_shape, np.dtype(np.int32))
        tiles = list(_iter_tiles(binned_shape))
        n_nuclei = 0
        for tile in progress(tiles, "Segmenting nuclei", len(tiles)):
            n_nuclei = _segment_tile(pixels, mask, tile, binned_voxel_size, threshold, n_nuclei)
        if n_nuclei == 0:
            raise FileError(stack.path, f"{stack.path}: no nucleus stands out from the background; give a `mask`.")
        _write_mask(
            mask, target, stack.shape, bin_factor, np.dtype(np.uint16 if n_nuclei < 1 << 16 else np.int32), progress
        )
    return n_nuclei


@dataclass
class _DiskVolume:
    """A raw volume in a temporary file that is read and written in boxes.

    It is not memory-mapped, since mapped pages count as used memory.
    """

    file: IO[bytes]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    def __post_init__(self) -> None:
        self.file.truncate(int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize)

    def read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        """Return a copy of a box."""
        box = np.empty((z.stop - z.start, y.stop - y.start, x.stop - x.start), self.dtype)
        for k in range(len(box)):
            self._seek(z.start + k, y.start)
            rows = np.fromfile(self.file, self.dtype, (y.stop - y.start) * self.shape[2])
            box[k] = rows.reshape(-1, self.shape[2])[:, x]
        return box

    def write(self, z: slice, y: slice, x: slice, box: NDArray[Any]) -> None:
        """Write a box, by reading, changing and writing whole rows."""
        for k in range(len(box)):
            plane = slice(z.start + k, z.start + k + 1)
            rows = self.read(plane, y, slice(0, self.shape[2]))[0]
            rows[:, x] = box[k]
            self._seek(plane.start, y.start)
            self.file.write(rows.tobytes())
            self.file.flush()

    def append(self, values: NDArray[Any]) -> None:
        """Append a slice."""
        self.file.write(np.ascontiguousarray(values, self.dtype).tobytes())
        self.file.flush()

    def slices(self) -> Iterator[NDArray[Any]]:
        """Yield the slices."""
        for z in range(self.shape[0]):
            yield self.read(slice(z, z + 1), slice(0, self.shape[1]), slice(0, self.shape[2]))[0]

    def _seek(self, z: int, y: int) -> None:
        self.file.seek((z * self.shape[1] + y) * self.shape[2] * self.dtype.itemsize)


def _copy_binned(slices: Iterable[Slice], volume: _DiskVolume, bin_factor: int) -> tuple[float, float]:
    """Copy slices, averaged in blocks of bin_factor x bin_factor pixels; return the copy's lowest and highest intensity."""
    min_intensity, max_intensity = np.inf, -np.inf
    for values in slices:
        if bin_factor > 1:
            values = np.pad(values, [(0, -side % bin_factor) for side in values.shape], mode="edge")
            blocks = values.reshape(
                values.shape[0] // bin_factor, bin_factor, values.shape[1] // bin_factor, bin_factor
            )
            values = blocks.mean(axis=(1, 3), dtype=np.float32)
        volume.append(values)
        min_intensity, max_intensity = min(min_intensity, float(values.min())), max(max_intensity, float(values.max()))
    return min_intensity, max_intensity


def _otsu_threshold(volume: _DiskVolume, intensity_range: tuple[float, float]) -> float:
    """Return Otsu's threshold of all voxels, with the brightest 1 in 1000 clipped."""
    from skimage.filters import threshold_otsu

    counts = np.zeros(N_BINS, dtype=np.int64)
    for values in volume.slices():
        for block in np.array_split(values.ravel(), max(1, values.size // BLOCK_PIXELS)):
            counts += np.bincount(bin_indices(block, *intensity_range), minlength=N_BINS)
    top_bin = max(1, int(np.searchsorted(np.cumsum(counts), 0.999 * counts.sum())))
    coarse_counts, edges = np.histogram(
        np.minimum(np.arange(N_BINS), top_bin), bins=512, range=(0, top_bin), weights=counts
    )
    threshold_bin = float(threshold_otsu(hist=(coarse_counts, (edges[1:] + edges[:-1]) / 2)))
    return intensity_range[0] + threshold_bin / (N_BINS - 1) * (intensity_range[1] - intensity_range[0])


def _iter_tiles(shape: tuple[int, int, int]) -> Iterator[tuple[slice, slice, slice]]:
    for z in range(0, shape[0], TILE_SHAPE[0]):
        for y in range(0, shape[1], TILE_SHAPE[1]):
            for x in range(0, shape[2], TILE_SHAPE[2]):
                yield tuple(  # type: ignore[misc]
                    slice(start, min(start + side, end))
                    for start, side, end in zip((z, y, x), TILE_SHAPE, shape, strict=True)
                )


def _segment_tile(
    pixels: _DiskVolume,
    mask: _DiskVolume,
    tile: tuple[slice, slice, slice],
    voxel_size: VoxelSize,
    threshold: float,
    last_id: int,
) -> int:
    """Write the nuclei whose centroid is in `tile` to the mask, with ids from `last_id` + 1; return the last id."""
    margins = [int(np.ceil(MARGIN_UM / side)) for side in voxel_size]
    z, y, x = (
        slice(max(0, part.start - margin), min(end, part.stop + margin))
        for part, margin, end in zip(tile, margins, pixels.shape, strict=True)
    )
    tile_labels, centroids = _watershed_tile(pixels.read(z, y, x), voxel_size, threshold)
    origin = np.array([z.start, y.start, x.start])
    is_inside = np.array(
        [all(p.start <= c < p.stop for p, c in zip(tile, centroid + origin, strict=True)) for centroid in centroids],
        np.bool_,
    )
    if not is_inside.any():
        return last_id
    id_of_label = np.zeros(len(centroids) + 1, dtype=np.int32)
    id_of_label[1:][is_inside] = last_id + 1 + np.arange(int(is_inside.sum()))
    box = mask.read(z, y, x)
    new_ids = id_of_label[tile_labels]
    box[(new_ids > 0) & (box == 0)] = new_ids[(new_ids > 0) & (box == 0)]
    mask.write(z, y, x, box)
    return last_id + int(is_inside.sum())


def _watershed_tile(
    values: NDArray[Any], voxel_size: VoxelSize, threshold: float
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the labels of the objects in a tile, from 1, and their centroids in voxels, (n, 3)."""
    from scipy import ndimage
    from skimage.segmentation import watershed

    smooth = ndimage.gaussian_filter(
        values.astype(np.float32), [SMOOTHING_SIGMA_UM / side for side in voxel_size], truncate=3
    )
    foreground = smooth > threshold
    if not foreground.any():
        return np.zeros(values.shape, np.int32), np.zeros((0, 3))
    # The distance is to background within the tile only: beyond the tile it is unknown whether there is any.
    distance = ndimage.distance_transform_edt(foreground, sampling=voxel_size).astype(np.float32)
    distance = ndimage.gaussian_filter(distance, [SMOOTHING_SIGMA_UM / side for side in voxel_size], truncate=3)
    window = [2 * max(1, round(MIN_SEED_DISTANCE_UM / side)) + 1 for side in voxel_size]
    peaks = (distance == ndimage.maximum_filter(distance, window)) & foreground
    seeds, _ = ndimage.label(peaks, np.ones((3, 3, 3)))
    tile_labels: NDArray[np.int32] = watershed(-distance, seeds, mask=foreground).astype(np.int32)
    volumes = np.bincount(tile_labels.ravel()) * float(np.prod(voxel_size))
    keep = (volumes >= MIN_VOLUME_UM3) & (volumes <= MAX_VOLUME_UM3)
    keep[0] = False
    new_labels = np.zeros(len(keep), dtype=np.int32)
    new_labels[keep] = 1 + np.arange(int(keep.sum()))
    tile_labels = new_labels[tile_labels]
    centroids = ndimage.center_of_mass(
        np.ones(tile_labels.shape, np.uint8), tile_labels, np.arange(1, int(keep.sum()) + 1)
    )
    return tile_labels, np.array(centroids, dtype=np.float64).reshape(-1, 3)


def _write_mask(
    mask: _DiskVolume,
    target: Path,
    shape: tuple[int, int, int],
    bin_factor: int,
    dtype: np.dtype[Any],
    progress: ProgressTracker,
) -> None:
    """Write the mask at the stack's own size, one compressed page per slice."""
    import tifffile

    with tifffile.TiffWriter(target, bigtiff=True) as writer:
        for values in progress(mask.slices(), "Writing the mask", shape[0]):
            page = values.astype(dtype)
            if bin_factor > 1:
                page = page.repeat(bin_factor, axis=0).repeat(bin_factor, axis=1)[: shape[1], : shape[2]]
            writer.write(page, compression="zlib", photometric="minisblack", contiguous=False, metadata=None)
