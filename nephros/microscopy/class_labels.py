"""Classes that a user assigns to a stack's nuclei, by the rows of a table, so that a model can be trained on them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from nephros.data.class_names import class_name_fault
from nephros.errors import FileError, IncompatibleError
from nephros.microscopy.class_table import ClassRow, ClassTable
from nephros.microscopy.location import StackLocation, is_url, locate
from nephros.microscopy.measurements import NucleusProperties
from nephros.microscopy.voxel_size import VoxelSize
from nephros.text_tables import join_words, pluralize

STEM = "{stem}"
"""What stands for the name of a stack in the paths of its mask and its table."""
_SUFFIX = re.compile(r"(\.ome)?\.(tiff?|zarr|npy|lsm|czi|nd2|lif|ims|png|jpe?g)", re.IGNORECASE)
_MIN_MATCHED_SHARE = 0.5
"""Share of positions in nuclei below which they are those of another stack, or in another unit."""
_MIN_PER_CLASS = 3
_FINEST = "voxels of the finest pyramid level"


@dataclass(frozen=True)
class NucleusClasses:
    """The classes of a stack's nuclei by their ids in the mask."""

    class_of_id: Mapping[int, str]
    groups_of_id: Mapping[str, Mapping[int, str]]
    """Name of a column, such as patient -> the group of each labeled nucleus that has one."""
    notes: tuple[str, ...] = ()
    """What was assumed or left out; one sentence each."""
    is_by_id: bool = False
    """Whether the rows name the nuclei by their ids, and not by their positions."""


def stack_stem(path: StackLocation) -> str:
    """Return a stack's name without its suffix, such as K4 of K4.ome.tif, which `{stem}` stands for."""
    match = re.fullmatch(rf"(.+?){_SUFFIX.pattern}", path.name, re.IGNORECASE)
    return match[1] if match else path.name


def fill_stem(pattern: str, stack: StackLocation) -> StackLocation:
    """Return the path or URL that a pattern such as ``{stem}_mask.tif`` names for a stack."""
    text = pattern.replace(STEM, stack_stem(stack))
    return locate(text, "mask") if is_url(text) else Path(text).expanduser()


def rows_of_stack(table: ClassTable, path: StackLocation, name: str, n_stacks: int, index: int) -> list[ClassRow]:
    """Return the rows of a table that are of one stack.

    Args:
        table: it may say of each row which stack it is of, by its file, its name or its number from 1.
        path: of the stack.
        name: of the stack among the others.
        n_stacks: number of stacks that the table is for.
        index: of this stack, from 0.

    Raises:
        FileError: the rows are of several stacks, and none of them is this one.
    """
    values = sorted({row.stack for row in table.rows})
    if values == [""] and n_stacks == 1:
        return list(table.rows)
    names = {text.casefold() for text in (path.name, stack_stem(path), name)}
    matching = {value for value in values if value and _names_stack(value, path, names)}
    if not matching and n_stacks > 1 and all(re.fullmatch(r"\d+", value) for value in values):
        matching = {value for value in values if int(value) == index + 1}
    if not matching and n_stacks == 1 and len(values) == 1:
        return list(table.rows)  # such as a projection of the stack
    if not matching and n_stacks == 1:
        raise FileError(
            table.path,
            f"{table.path} covers {len(values):,} images, {join_words(values[:4])}, none of which is {path.name}; give a table "
            "for each stack, or name the stack in its column Image.",
        )
    if values == [""]:
        raise FileError(
            table.path,
            f"{table.path} does not say which of {n_stacks} stacks each row is of; add a column stack, or give a table for each, "
            "such as `classes`='{stem}.csv'.",
        )
    return [row for row in table.rows if row.stack in matching]


def _names_stack(value: str, path: StackLocation, names: set[str]) -> bool:
    """Return whether a table's name for an image, such as "K4.ome.tif - Series 0", is a stack's."""
    text = PurePosixPath(value.replace("\\", "/")).name.casefold()
    return bool({text, stack_stem(Path(text)), value.casefold()} & names) or text.startswith(f"{path.name.casefold()} ")


def classes_of_nuclei(
    table: ClassTable,
    rows: Sequence[ClassRow],
    nuclei: NucleusProperties,
    voxel_size: VoxelSize | None,
    level_step: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> NucleusClasses:
    """Return the classes of a stack's nuclei, matched by id or, where the rows have none, by position.

    Args:
        table: for messages.
        rows: those of this stack.
        nuclei: all nuclei of the mask.
        voxel_size: micrometers along z, y and x; None where it is unknown.
        level_step: voxels of the stack's finest pyramid level per voxel here, along z, y and x: other programs show the finest.

    Raises:
        FileError: a nucleus has two classes or two groups of one kind, or the positions are not in the nuclei.
        IncompatibleError: an id is not in the mask.
    """
    notes: tuple[str, ...] = ()
    is_by_id = all(row.id is not None for row in rows)
    if not is_by_id:
        ids, notes = _join_by_position(table, rows, nuclei, voxel_size, level_step)
    else:
        ids = [row.id for row in rows]
        known_ids = set(nuclei.ids.tolist())
        if unknown_ids := sorted({nucleus_id for nucleus_id in ids if nucleus_id not in known_ids}, key=str):
            raise IncompatibleError(
                f"`classes` has the nucleus {unknown_ids[0]}, which is not in the mask ({len(unknown_ids):,} of the "
                f"{len(ids):,} in {table.path.name} are not); take the ids from the mask."
            )
    class_of_id: dict[int, str] = {}
    groups_of_id: dict[str, dict[int, str]] = {}
    for row, nucleus_id in zip(rows, ids, strict=True):
        if nucleus_id is None:
            continue
        if class_of_id.setdefault(nucleus_id, row.class_name) != row.class_name:
            raise FileError(
                table.path,
                f"{table.path}: line {row.line} gives nucleus {nucleus_id} a second class; keep one of them.",
            )
        for name, group in row.groups.items():
            if group and groups_of_id.setdefault(name, {}).setdefault(nucleus_id, group) != group:
                raise FileError(
                    table.path,
                    f"{table.path}: line {row.line} gives nucleus {nucleus_id} a second value of {name}; keep one of them.",
                )
    return NucleusClasses(class_of_id, groups_of_id, notes, is_by_id)


def _join_by_position(
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


def check_classes(class_names: Sequence[str]) -> tuple[str, ...]:
    """Return the classes, sorted, given the class of each labeled nucleus.

    Raises:
        IncompatibleError: there are fewer than two classes, one has too few nuclei, or their names are not names.
    """
    counts = dict(sorted(Counter(class_names).items()))
    if len(counts) < 2:
        raise IncompatibleError(
            f"`classes` has {len(counts)} class among the nuclei kept; a classifier needs at least two."
        )
    if fault := class_name_fault(list(counts)):
        raise IncompatibleError(f"In `classes`, sorted by name, {fault}; spell each class in one way.")
    rarest = min(counts, key=lambda name: counts[name])
    if counts[rarest] < _MIN_PER_CLASS:
        raise IncompatibleError(
            f"`classes` has too few nuclei of '{rarest}', {counts[rarest]}; a class needs at least {_MIN_PER_CLASS}: "
            "label more, or leave it out of the table."
        )
    return tuple(counts)


def stack_warnings(class_names: Sequence[str], stack_names: Sequence[str]) -> tuple[str, ...]:
    """Return a warning for classes that occur in one of several stacks only, given the class and the stack of each nucleus."""
    stacks_of_class: dict[str, set[str]] = {}
    for class_name, stack_name in zip(class_names, stack_names, strict=True):
        stacks_of_class.setdefault(class_name, set()).add(stack_name)
    lonely = {name: stacks for name, stacks in sorted(stacks_of_class.items()) if len(stacks) == 1}
    if len(set(stack_names)) < 2 or not lonely:
        return ()
    text = join_words(f"{name} in {next(iter(stacks))}" for name, stacks in lonely.items())
    return (
        f"Some classes occur in one stack only ({text}), so a model may learn the stack rather than the class: label them in "
        "several.",
    )
