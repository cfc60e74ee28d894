"""Ids of a mask whose voxels are not one compact piece: numbers that start again in each slice, or that two nuclei share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nephros.errors import FileError
from nephros.microscopy.stack import Stack
from nephros.microscopy.voxel_size import VoxelSize

BLOCK_SHAPE = (2, 6, 6)
"""Training voxels per block, at least 2 of the stack's along each axis; pieces in adjacent blocks count as one piece."""
MAX_RADIUS = (14, 32, 32)
"""Distance in training voxels, along z, y and x, from which a voxel of the largest piece is far from its centroid."""
MAX_STRAY_VOXELS, MAX_STRAY_SHARE = 3, 0.05
"""A nucleus may have so many voxels far from its largest piece, or such a share of them."""
MAX_SCATTERED_SHARE = 0.25
"""Share of scattered nuclei up to which a mask is used, with a warning."""
_N_NAMED = 5
_BATCH_NUCLEI = 4096


class PieceFinder:
    """Counts the voxels of each nucleus per block of the stack, and finds the largest piece of each when all are in.

    Memory: about 1 KiB per nucleus.
    """

    def __init__(self, shape: tuple[int, int, int], step: VoxelSize) -> None:
        """Take the stack's shape, and its voxels per training voxel along z, y and x."""
        self._block = [max(2, round(size * ratio)) for size, ratio in zip(BLOCK_SHAPE, step, strict=True)]
        self._radius = [max(2.0, size * ratio) for size, ratio in zip(MAX_RADIUS, step, strict=True)]
        # With an empty block on either side, a neighbor's key never belongs to another row, slice or nucleus.
        self._n_blocks = [-(-size // block) + 2 for size, block in zip(shape, self._block, strict=True)]
        self._keys: list[NDArray[np.int64]] = []
        self._counts: list[NDArray[np.uint32]] = []
        self._layer_start, self._layer = 0, -1

    def add_voxels(self, columns: NDArray[np.int64], z: int, y: NDArray[np.int64], x: NDArray[np.int64]) -> None:
        """Count voxels of slice `z`: the column of each one's nucleus, from 0, and its row and column in the slice."""
        if z // self._block[0] != self._layer:
            self._merge_layer()
            self._layer = z // self._block[0]
        _, n_y, n_x = self._n_blocks
        keys = (columns * self._n_blocks[0] + self._layer + 1) * n_y + y // self._block[1] + 1
        unique_keys, counts = np.unique(keys * n_x + x // self._block[2] + 1, return_counts=True)
        self._keys.append(unique_keys)
        self._counts.append(counts.astype(np.uint32))

    def _merge_layer(self) -> None:
        """Add up the counts of the same block from several slices and bands."""
        if len(self._keys) > self._layer_start:
            keys, counts = (np.concatenate(parts[self._layer_start :]) for parts in (self._keys, self._counts))
            unique_keys, inverse = np.unique(keys, return_inverse=True)
            self._keys[self._layer_start :] = [unique_keys]
            self._counts[self._layer_start :] = [np.bincount(inverse, weights=counts).astype(np.uint32)]
        self._layer_start = len(self._keys)

    def far_sums(self, n: int) -> NDArray[np.float64]:
        """Return the number of far voxels of each of `n` nuclei and the sums of their z, y and x, (4, n).

        The sums are those of the blocks' centers.
        """
        self._merge_layer()
        n_cells, far = int(np.prod(self._n_blocks)), np.zeros((4, n))
        for start in range(0, n, _BATCH_NUCLEI):
            stop = min(start + _BATCH_NUCLEI, n)
            parts = []
            for keys, counts in zip(self._keys, self._counts, strict=True):
                low, high = np.searchsorted(keys, (start * n_cells, stop * n_cells))
                parts.append((keys[low:high] - start * n_cells, counts[low:high]))
            keys, counts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            far[:, start:stop] = self._batch_far_sums(keys, counts, stop - start)
        return far

    def _batch_far_sums(self, keys: NDArray[np.int64], counts: NDArray[np.uint32], n: int) -> NDArray[np.float64]:
        """Return the sums for `n` nuclei whose keys begin at 0."""
        order = np.argsort(keys)
        keys, counts = keys[order], counts[order]
        far = np.zeros((4, n))
        piece = self._connect(keys)
        piece_voxels = np.bincount(piece, weights=counts)
        column, *blocks = np.unravel_index(keys, (n, *self._n_blocks))
        # The heaviest piece of each nucleus: later assignments win, so the lightest come first.
        by_weight = np.argsort(piece_voxels[piece], kind="stable")
        main_piece = np.zeros(n, np.int64)
        main_piece[column[by_weight]] = piece[by_weight]
        in_main = piece == main_piece[column]
        positions = [(block - 0.5) * size - 0.5 for block, size in zip(blocks, self._block, strict=True)]
        main_voxels = np.bincount(column, weights=counts * in_main, minlength=n)
        for position, radius in zip(list(positions), self._radius, strict=True):
            center = np.bincount(column, weights=counts * in_main * position, minlength=n) / np.maximum(main_voxels, 1)
            in_main &= np.abs(position - center[column]) <= radius
        # A piece so long that nothing is near its center, such as a ring, is left whole.
        in_main |= (np.bincount(column, weights=in_main, minlength=n) == 0)[column] & (piece == main_piece[column])
        for row, values in enumerate([np.ones(len(keys)), *positions]):
            far[row] = np.bincount(column, weights=counts * ~in_main * values, minlength=n)
        return far

    def _connect(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the piece of each block: blocks of a nucleus that touch, at a face, edge or corner, are one piece."""
        _, n_y, n_x = self._n_blocks
        offsets = [(dz * n_y + dy) * n_x + dx for dz in (0, 1) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        edges = []
        for offset in (offset for offset in offsets if offset > 0):
            neighbors = np.minimum(np.searchsorted(keys, keys + offset), len(keys) - 1)
            touching = np.flatnonzero(keys[neighbors] == keys + offset)
            edges.append(np.stack([touching, neighbors[touching]]))
        rows, columns = np.concatenate(edges, axis=1)
        graph = coo_array((np.ones(len(rows), np.bool_), (rows, columns)), shape=(len(keys), len(keys)))
        return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def scattered_nuclei(voxels: NDArray[np.int64], far_voxels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which nuclei, (n,), have more voxels far from their largest piece than stray ones."""
    return (far_voxels > MAX_STRAY_VOXELS) & (far_voxels > MAX_STRAY_SHARE * voxels)


def scattered_text(ids: NDArray[np.int64], voxels: NDArray[np.int64], far_voxels: NDArray[np.int64]) -> str:
    """Return which nuclei are scattered and how much of each is far away, or nothing where none is."""
    is_scattered = scattered_nuclei(voxels, far_voxels)
    rows = np.flatnonzero(is_scattered)
    if not len(rows):
        return ""
    named = ", ".join(f"{ids[row]} ({far_voxels[row] / voxels[row]:.0%} far away)" for row in rows[:_N_NAMED])
    more = f" and {len(rows) - _N_NAMED:,} more" if len(rows) > _N_NAMED else ""
    return (
        f"{len(rows):,} of {len(ids):,} ids are not one compact piece each, as if several nuclei shared the same number: "
        f"{named}{more}"
    )


def check_pieces(mask: Stack, ids: NDArray[np.int64], voxels: NDArray[np.int64], far_voxels: NDArray[np.int64]) -> None:
    """Check that most ids of a mask are one compact piece each.

    Raises:
        FileError: more than a quarter are not.
    """
    if scattered_nuclei(voxels, far_voxels).mean() > MAX_SCATTERED_SHARE:
        raise FileError(
            mask.path,
            f"{mask.path}: {scattered_text(ids, voxels, far_voxels)}; number the nuclei through the whole stack (in cellpose "
            "with do_3D, or with skimage.measure.label) or set `stitch_threshold` to 0.25 if ids count within each slice.",
        )
