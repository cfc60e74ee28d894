"""Masks that were made slice by slice, as cellpose and StarDist do in 2-D, joined to nuclei with one id through the stack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.stack import Slice, Stack


def stitch(mask: Stack, threshold: float) -> Stack:
    """Return a mask in which objects of neighboring slices share an id where they overlap.

    An object continues that of the slice before with which it has the largest intersection over union, where that is at least
    the threshold and no other object of its slice has a larger one with the same. This is the rule of cellpose's
    ``stitch_threshold`` (`cellpose.utils.stitch3D`), with one exception: ids are 1, 2, ... in the order in which they begin.

    Args:
        mask: its ids count within each slice only.
        threshold: least intersection over union, above 0 and at most 1.
    """
    return replace(mask, dtype=np.dtype(np.int32), read_slices=lambda: _stitched(mask, threshold))


def _stitched(mask: Stack, threshold: float) -> Iterator[Slice]:
    before: NDArray[np.int32] | None = None
    last_id = 0
    for values in mask.slices():
        objects, flat = np.unique(values, return_inverse=True)
        places = flat.reshape(values.shape)
        ids = np.zeros(len(objects), np.int32)
        if before is not None:
            ids = _continued(before, places, len(objects), objects == 0, threshold)
        is_new = (ids == 0) & (objects != 0)
        ids[is_new] = last_id + 1 + np.arange(int(is_new.sum()))
        last_id += int(is_new.sum())
        before = ids[places]
        yield before


def _continued(
    before: NDArray[np.int32], places: NDArray[Any], n_objects: int, is_background: NDArray[np.bool_], threshold: float
) -> NDArray[np.int32]:
    """Return the id that each object of a slice continues, 0 for none."""
    old_ids, old_flat = np.unique(before, return_inverse=True)
    pairs, overlaps = np.unique(old_flat.ravel().astype(np.int64) * n_objects + places.ravel(), return_counts=True)
    old, new = np.divmod(pairs, n_objects)
    old_sizes, new_sizes = np.bincount(old_flat.ravel()), np.bincount(places.ravel(), minlength=n_objects)
    shares = overlaps / (old_sizes[old] + new_sizes[new] - overlaps)
    is_candidate = (old_ids[old] != 0) & ~is_background[new] & (shares >= threshold)
    old, new, shares = old[is_candidate], new[is_candidate], shares[is_candidate]
    best_of_old, best_of_new = np.zeros(len(old_ids)), np.zeros(n_objects)
    np.maximum.at(best_of_old, old, shares)
    np.maximum.at(best_of_new, new, shares)
    ids = np.zeros(n_objects, np.int32)
    taken: set[int] = set()
    for row in np.flatnonzero((shares == best_of_old[old]) & (shares == best_of_new[new])).tolist():
        if ids[new[row]] == 0 and int(old[row]) not in taken:  # of two equal ones the first
            ids[new[row]] = old_ids[old[row]]
            taken.add(int(old[row]))
    return ids
