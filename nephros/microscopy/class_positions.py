"""Positions in a table of classes, matched with the nuclei of the mask that are there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nephros.errors import FileError
from nephros.microscopy.class_table import ClassRow, ClassTable
from nephros.microscopy.measurements import NucleusProperties
from nephros.microscopy.voxel_size import VoxelSize
from nephros.text_tables import pluralize

_MIN_MATCHED_SHARE = 0.5
"""Share of positions in nuclei below which they are those of another stack, or in another unit."""
_FINEST = "voxels of the finest pyramid level"


def join_by_position(
    table: ClassTable,
    rows: Sequence[ClassRow],
    nuclei: NucleusProperties,
    voxel_size: VoxelSize | None,
    level_step: tuple[float, float, float],
) -> tuple[list[int | None], tuple[str, ...]]:
    """Return the id of the nucleus at each row's position, None where none or more than one is there, and notes."""
    sides = np.array(voxel_size or (1.0, 1.0, 1.0))
    units = [table.center_unit] if table.center_unit else ["voxels", "micrometers"]
    if voxel_size is None:
        units = [unit for unit in units if unit == "voxels"]
        if not units:
            raise FileError(
                table.path,
                f"{table.path} has positions in micrometers, but the voxel size of the stack is unknown; set `voxel_size`.",
            )
    scales = {"voxels": sides, "micrometers": np.ones(3), _FINEST: sides / level_step}
    if "voxels" in units and max(level_step) > 1:
        units = [_FINEST, *units]
    centers = np.array(
        [[np.nan if value is None else value for value in row.center or (None,) * 3] for row in rows], np.float64
    )
    matches = {unit: _nuclei_at(centers * scales[unit], nuclei, sides) for unit in units}
    unit = max(units, key=lambda unit: int((matches[unit] >= 0).sum()))
    indices = matches[unit]
    n_joined = int((indices >= 0).sum())
    if n_joined < _MIN_MATCHED_SHARE * len(rows):
        raise FileError(
            table.path,
            f"{table.path} has {len(rows):,} positions in {unit}, of which {n_joined:,} are in one nucleus of the mask; check "
            "the voxel size, and that the table is of this stack.",
        )
    axes = "z, y and x" if not np.isnan(centers[:, 0]).any() else "y and x"
    guess = ", as fits them best" if len(units) > 1 else ""
    notes = [
        f"{table.path.name}: its positions ({axes}) are taken for {unit} from the corner of the stack{guess}, and each row for "
        "the nucleus there."
    ]
    if n_left_out := len(rows) - n_joined:
        notes.append(
            f"{table.path.name}: {pluralize(n_left_out, 'row')} of {len(rows):,} left out, where no nucleus or several are."
        )
    return [int(nuclei.ids[index]) if index >= 0 else None for index in indices.tolist()], tuple(notes)


def _nuclei_at(
    centers_um: NDArray[np.float64], nuclei: NucleusProperties, sides: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return the index of the nucleus around each of (n, 3) positions, z perhaps NaN; -1 for none, and for no clear one.

    A nucleus reaches as far as a ball of its volume; positions within a pixel of two centers are of neither.
    """
    from scipy.spatial import cKDTree

    nucleus_centers = nuclei.centroids * sides
    radii = np.maximum((nuclei.voxels * sides.prod() * 3 / (4 * np.pi)) ** (1 / 3), sides.max())
    tree = cKDTree(nucleus_centers[:, 1:])
    indices = np.full(len(centers_um), -1, np.int64)
    for row, candidates in enumerate(tree.query_ball_point(centers_um[:, 1:], float(radii.max()))):
        nearby = np.array(candidates, np.int64)
        offsets = nucleus_centers[nearby] - centers_um[row]
        if np.isnan(centers_um[row, 0]):
            offsets[:, 0] = 0
        distances = np.sqrt((offsets**2).sum(axis=1))
        inside = distances <= radii[nearby]
        nearby, distances = nearby[inside], distances[inside]
        order = np.argsort(distances)
        if len(order) == 1 or (len(order) > 1 and distances[order[1]] > max(2 * distances[order[0]], sides[1:].max())):
            indices[row] = nearby[order[0]]
    return indices
