"""Which nucleus of a mask each row of a table is of: by its id, as far as its position agrees with that, or by its position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.errors import FileError
from nephros.microscopy.class_table import ClassRow, ClassTable
from nephros.microscopy.measurements import NucleusProperties
from nephros.microscopy.pieces import scattered_nuclei
from nephros.microscopy.voxel_size import VoxelSize
from nephros.text_tables import pluralize

_MIN_MATCHED_SHARE = 0.5
"""Share of positions in nuclei below which they are those of another stack, or in another unit."""
_CLOSE_SHARE = 0.5
"""Of a nucleus's radius: positions anywhere in a stack are seldom so near to a centroid, those of its nuclei mostly are."""
_MAX_RADII = 2.0
"""Distance from the centroid, in radii, up to which a position that is in no other nucleus doesn't contradict an id."""
_FINEST = "voxels of the finest pyramid level"
_Scales = Mapping[str, NDArray[np.float64]]
"""Unit -> micrometers along z, y and x."""


@dataclass(frozen=True)
class MatchedRows:
    """The nuclei of rows."""

    ids: tuple[int | None, ...]
    """Of each row's nucleus in the mask; None for no nucleus, and for no clear one."""
    notes: tuple[str, ...] = ()
    """What was assumed or left out; one sentence each."""
    is_by_id: bool = False
    """Whether every row is of the nucleus that it names by its id."""
    unknown_ids: tuple[int, ...] = ()
    """Ids that are not in the mask, in ascending order, where positions don't say which nuclei are meant."""


def match_rows(
    table: ClassTable,
    rows: Sequence[ClassRow],
    nuclei: NucleusProperties,
    voxel_size: VoxelSize | None,
    level_step: tuple[float, float, float] = (1.0, 1.0, 1.0),
    *,
    needs_positions: bool = False,
) -> MatchedRows:
    """Return the nucleus of each row of a table.

    Another mask of the same stack has the same ids for other nuclei. Rows with both an id and a position are therefore of the
    nucleus of that id only where it is at that position, and of the one at the position elsewhere. Positions that fit neither
    are in a unit or from a corner that nobody states, and the ids count.

    Args:
        table: for messages, and the unit of the positions.
        rows: those of this stack.
        nuclei: all nuclei of the mask.
        voxel_size: micrometers along z, y and x; None where it is unknown.
        level_step: voxels of the stack's finest pyramid level per voxel here, along z, y and x: other programs show the finest.
        needs_positions: whether the unit of the positions is certain, so that those that don't fit are of another stack.

    Raises:
        FileError: the positions are not in the nuclei.
    """
    if not rows:
        return MatchedRows((), is_by_id=True)
    sides = np.array(voxel_size or (1.0, 1.0, 1.0))
    centers = np.array(
        [[np.nan if value is None else value for value in row.center or (None,) * 3] for row in rows], np.float64
    ).reshape(-1, 3)
    has_id = np.array([row.id is not None for row in rows], np.bool_)
    scales = _unit_scales(table, voxel_size, level_step)
    if not has_id.any():
        return _match_by_position(table, centers, nuclei, sides, scales)
    index_of_id = {nucleus_id: index for index, nucleus_id in enumerate(nuclei.ids.tolist())}
    named = np.array([-1 if row.id is None else index_of_id.get(row.id, -1) for row in rows], np.int64)
    fit = _fit_positions(centers, named, nuclei, sides, scales)
    if fit is None and (needs_positions or not has_id.all()) and not np.isnan(centers[:, 1]).all():
        raise FileError(
            table.path,
            f"{table.path} has positions that are not those of the nuclei of its ids, nor of others in the mask; check that it "
            "is of this stack.",
        )
    if fit is None:
        unknown = {row.id for row, index in zip(rows, named.tolist(), strict=True) if row.id is not None and index < 0}
        return MatchedRows(
            _ids(named, nuclei), _unfit_notes(table, centers, named, scales), True, tuple(sorted(unknown))
        )
    indices = _without_contradictions(rows, fit, fit != named)
    moved = has_id & (fit != named)
    return MatchedRows(
        _ids(indices, nuclei), _moved_notes(table, moved, indices), bool(has_id.all() and not moved.any())
    )


def _ids(indices: NDArray[np.int64], nuclei: NucleusProperties) -> tuple[int | None, ...]:
    return tuple(int(nuclei.ids[index]) if index >= 0 else None for index in indices.tolist())


def _unit_scales(
    table: ClassTable, voxel_size: VoxelSize | None, level_step: tuple[float, float, float]
) -> dict[str, NDArray[np.float64]]:
    """Return the units in which a table's positions may be, the most probable one first."""
    sides = np.array(voxel_size or (1.0, 1.0, 1.0))
    units = [table.center_unit] if table.center_unit else ["voxels", "micrometers"]
    if voxel_size is None:
        units = [unit for unit in units if unit == "voxels"]
    if "voxels" in units and max(level_step) > 1:
        units = [_FINEST, *units]
    scales = {"voxels": sides, "micrometers": np.ones(3), _FINEST: sides / level_step}
    return {unit: scales[unit] for unit in units}


# Rows with ids


def _fit_positions(
    centers: NDArray[np.float64],
    named: NDArray[np.int64],
    nuclei: NucleusProperties,
    sides: NDArray[np.float64],
    scales: _Scales,
) -> NDArray[np.int64] | None:
    """Return the index of each row's nucleus, -1 for none; None where the positions tell nothing of these nuclei.

    Args:
        centers: (n, 3) position of each row; NaN where it is unknown.
        named: (n,) index of the nucleus of each row's id; -1 for none.
        nuclei: of the mask.
        sides: micrometers along z, y and x.
        scales: units in which the positions may be.
    """
    located = np.flatnonzero(~np.isnan(centers[:, 1:]).any(axis=1))
    if not len(located) or not scales:
        return None
    centers, by_id, radii = centers[located], named[located], _radii(nuclei, sides)
    radii_by_id = np.where(by_id >= 0, radii[by_id], 0)
    distances = {unit: _distances(centers * scale, by_id, nuclei, sides) for unit, scale in scales.items()}
    unit = max(scales, key=lambda unit: int((distances[unit] <= radii_by_id).sum()))
    if (distances[unit] <= radii_by_id).sum() < max(1, _MIN_MATCHED_SHARE * (by_id >= 0).sum()):
        places = {unit: _nuclei_at(centers * scale, nuclei, sides) for unit, scale in scales.items()}
        n_close = {
            unit: int(
                (_distances(centers * scale, places[unit], nuclei, sides) <= _CLOSE_SHARE * radii[places[unit]]).sum()
            )
            for unit, scale in scales.items()
        }
        unit = max(scales, key=n_close.__getitem__)
        if n_close[unit] < _MIN_MATCHED_SHARE * len(located):
            return None
    doubtful = distances[unit] > radii_by_id
    place, by_id = _nuclei_at(centers[doubtful] * scales[unit], nuclei, sides), by_id[doubtful]
    # Others take the centroid of scattered voxels for another place.
    is_scattered = scattered_nuclei(nuclei.voxels, nuclei.far_voxels)[by_id]
    is_near = (place < 0) & (distances[unit][doubtful] <= _MAX_RADII * radii_by_id[doubtful])
    fit = named.copy()
    fit[located[doubtful]] = np.where((by_id >= 0) & (is_scattered | is_near), by_id, place)
    return fit


def _without_contradictions(
    rows: Sequence[ClassRow], indices: NDArray[np.int64], is_moved: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return the nuclei without those of moved rows where rows of different classes lie in one, as where nuclei were merged."""
    classes: dict[int, set[str]] = {}
    for row, index in zip(rows, indices.tolist(), strict=True):
        classes.setdefault(index, set()).add(row.class_name)
    contradicts = np.array([len(classes[index]) > 1 for index in indices.tolist()], np.bool_)
    return np.where(is_moved & contradicts, -1, indices)


def _moved_notes(table: ClassTable, moved: NDArray[np.bool_], indices: NDArray[np.int64]) -> tuple[str, ...]:
    notes = []
    if n_moved := int(moved.sum()):
        notes.append(
            f"{table.path.name}: {n_moved:,} of {pluralize(len(moved), 'row')} are not where the nucleus of their id is, as with "
            "ids of another mask; each of them is taken for the nucleus at its position."
        )
    return (*notes, *_left_out_notes(table, indices))


def _unfit_notes(
    table: ClassTable, centers: NDArray[np.float64], named: NDArray[np.int64], scales: _Scales
) -> tuple[str, ...]:
    if not scales or np.isnan(centers[:, 1]).all() or (named < 0).all():
        return ()
    return (
        f"{table.path.name}: its positions are not those of the nuclei of its ids, and the ids count; check that they are those "
        "of this mask.",
    )


def _left_out_notes(table: ClassTable, indices: NDArray[np.int64]) -> tuple[str, ...]:
    n_left_out = int((indices < 0).sum())
    if not n_left_out:
        return ()
    return (
        f"{table.path.name}: {pluralize(n_left_out, 'row')} of {len(indices):,} left out, where no nucleus or several are.",
    )


# Rows without ids


def _match_by_position(
    table: ClassTable,
    centers: NDArray[np.float64],
    nuclei: NucleusProperties,
    sides: NDArray[np.float64],
    scales: _Scales,
) -> MatchedRows:
    """Return the nucleus at each row's position, in the unit that fits most of them.

    Raises:
        FileError: the positions are not in the nuclei.
    """
    if not scales:
        raise FileError(
            table.path,
            f"{table.path} has positions in micrometers, but the voxel size of the stack is unknown; set `voxel_size`.",
        )
    matches = {unit: _nuclei_at(centers * scale, nuclei, sides) for unit, scale in scales.items()}
    unit = max(scales, key=lambda unit: int((matches[unit] >= 0).sum()))
    indices = matches[unit]
    n_joined = int((indices >= 0).sum())
    if n_joined < _MIN_MATCHED_SHARE * len(centers):
        raise FileError(
            table.path,
            f"{table.path} has {len(centers):,} positions in {unit}, of which {n_joined:,} are in one nucleus of the mask; check "
            "the voxel size, and that the table is of this stack.",
        )
    axes = "z, y and x" if not np.isnan(centers[:, 0]).any() else "y and x"
    guess = ", as fits them best" if len(scales) > 1 else ""
    note = (
        f"{table.path.name}: its positions ({axes}) are taken for {unit} from the corner of the stack{guess}, and each row for "
        "the nucleus there."
    )
    return MatchedRows(_ids(indices, nuclei), (note, *_left_out_notes(table, indices)))


# Places


def _radii(nuclei: NucleusProperties, sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the radius in micrometers of a ball of each nucleus's volume, (n,), which is at least a voxel's longest side."""
    radii: NDArray[np.float64] = np.maximum((nuclei.voxels * sides.prod() * 3 / (4 * np.pi)) ** (1 / 3), sides.max())
    return radii


def _distances(
    centers_um: NDArray[np.float64], indices: NDArray[np.int64], nuclei: NucleusProperties, sides: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far each of (n, 3) positions, z perhaps NaN, is from the centroid of a nucleus; infinite for the index -1."""
    offsets = nuclei.centroids[indices] * sides - centers_um
    offsets[np.isnan(offsets)] = 0
    return np.where(indices >= 0, np.sqrt((offsets**2).sum(axis=1)), np.inf)


def _nuclei_at(
    centers_um: NDArray[np.float64], nuclei: NucleusProperties, sides: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return the index of the nucleus around each of (n, 3) positions, z perhaps NaN; -1 for none, and for no clear one.

    A nucleus reaches as far as a ball of its volume; positions within a pixel of two centers are of neither.
    """
    from scipy.spatial import cKDTree

    nucleus_centers, radii = nuclei.centroids * sides, _radii(nuclei, sides)
    tree = cKDTree(nucleus_centers[:, 1:])
    indices = np.full(len(centers_um), -1, np.int64)
    for row, candidates in enumerate(tree.query_ball_point(centers_um[:, 1:], float(radii.max()))):
        nearby = np.array(candidates, np.int64)
        distances = _distances(np.broadcast_to(centers_um[row], (len(nearby), 3)), nearby, nuclei, sides)
        inside = distances <= radii[nearby]
        nearby, distances = nearby[inside], distances[inside]
        order = np.argsort(distances)
        if len(order) == 1 or (len(order) > 1 and distances[order[1]] > max(2 * distances[order[0]], sides[1:].max())):
            indices[row] = nearby[order[0]]
    return indices
