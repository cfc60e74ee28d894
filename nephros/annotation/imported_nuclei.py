"""Which nuclei of a project's stacks the labels of a file are of: by their ids in the masks and their positions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.label_collection import LabelCollector
from nephros.annotation.project import Project
from nephros.annotation.project_file import StackSource
from nephros.errors import FileError
from nephros.microscopy.class_geojson import parse_features
from nephros.microscopy.class_labels import NamedStack, collect_classes, rows_by_stack, stack_stem
from nephros.microscopy.class_table import ClassRow, ClassTable, read_class_table
from nephros.microscopy.location import locate
from nephros.microscopy.measurements import NucleusProperties
from nephros.microscopy.nucleus_matching import match_rows
from nephros.text_tables import pluralize
from nephros.tissue.geojson import feature_id


def add_class_table(project: Project, table: ClassTable, labels: LabelCollector, *, is_own: bool = False) -> None:
    """Add the rows of a table of nuclei of stacks.

    Args:
        project: has stacks.
        table: of nuclei.
        labels: to which the labels are added.
        is_own: whether nephros wrote the positions, so that those that don't fit are of another stack.

    Raises:
        FileError: the table doesn't say of which stack a row is, its positions are not in the nuclei, or it gives a nucleus two
            classes.
    """
    stacks, n_labels = project.info.stacks, 0
    if len(stacks) > 1 and {row.stack for row in table.rows} == {""}:
        raise FileError(
            table.path,
            f"{table.path} does not say which of {len(stacks)} stacks each row is of; add a column stack with their names, such "
            f"as {stacks[0].name}.",
        )
    divided = rows_by_stack(table, [NamedStack(locate(stack.path), stack.name) for stack in stacks])
    for stack, rows in zip(stacks, divided.rows, strict=True):
        n_labels += len(rows)
        cells, nuclei = _nuclei_of_stack(project, stack)
        matched = match_rows(table, rows, nuclei, stack.voxel_size, stack.level_step, needs_positions=is_own)
        cell_of_id = dict(zip(nuclei.ids.tolist(), cells.tolist(), strict=True))
        for nucleus_id, class_name in collect_classes(table, rows, matched).class_of_id.items():
            labels.add([cell_of_id[nucleus_id]], class_name)
        for row, row_id in zip(rows, matched.ids, strict=True):
            if row_id is None:
                labels.add([], row.class_name)
        labels.notes += matched.notes
    labels.n_missing += len(table.rows) - n_labels
    labels.notes += [*divided.notes, *table.notes]


def add_exported_nuclei(
    project: Project, path: Path, rows: Sequence[ClassRow], annotators: Sequence[str], labels: LabelCollector
) -> None:
    """Add the rows of nuclei of a table that a project exported, each with the name of its stack and its annotator.

    Raises:
        FileError: the positions in a stack are those of another one of its name.
    """
    table = ClassTable(path, tuple(rows), "voxels")
    matched_ids: dict[int, int] = {}
    for stack in project.info.stacks:
        numbers = [number for number, row in enumerate(rows) if row.stack == stack.name]
        cells, nuclei = _nuclei_of_stack(project, stack)
        cell_of_id = dict(zip(nuclei.ids.tolist(), cells.tolist(), strict=True))
        of_stack = [rows[number] for number in numbers]
        matched = match_rows(table, of_stack, nuclei, stack.voxel_size, stack.level_step, needs_positions=True)
        matched_ids |= {
            number: cell_of_id[row_id]
            for number, row_id in zip(numbers, matched.ids, strict=True)
            if row_id is not None
        }
        labels.notes += matched.notes
    for number, (row, annotator) in enumerate(zip(rows, annotators, strict=True)):
        labels.add([matched_ids[number]] if number in matched_ids else [], row.class_name, annotator)


def add_geojson(project: Project, path: Path, content: bytes, labels: LabelCollector) -> None:
    """Add the objects of GeoJSON: those of nephros by their ids, where they are at these nuclei, and others by their positions.

    Raises:
        FileError: the file can't be read, or the project has no stack; otherwise as `add_class_table`.
    """
    table = read_class_table(path)
    if not project.has_stack:
        raise FileError(path, f"{path} has outlines of nuclei of stacks, and {project.root} has no stack.")
    features = parse_features(content)
    sources = _sources_of_features(project)
    names = _names_by_alias(project)
    rows, is_own = [], False
    for row in table.rows:
        stack, row_id = names.get(row.stack, row.stack), row.id
        name = features[row.line - 1].get("id")
        if isinstance(name, str) and name in sources:
            (stack, row_id), is_own = sources[name], True
        rows.append(dataclasses.replace(row, stack=stack, id=row_id))
    if len(project.info.stacks) > 1 and any(not row.stack for row in rows):
        rows = _with_stack_of_file(project, path, rows, labels)
    add_class_table(project, dataclasses.replace(table, rows=tuple(rows)), labels, is_own=is_own)


def _with_stack_of_file(
    project: Project, path: Path, rows: Sequence[ClassRow], labels: LabelCollector
) -> list[ClassRow]:
    """Return the objects of a file, where those that name no stack, as QuPath writes all, are of the stack of the file.

    That is the one of all other objects, else the one whose name the file has, such as K4.geojson or labels-K4.geojson.

    Raises:
        FileError: no object names a stack, and the file has the name of none.
    """
    named, stem = {row.stack for row in rows} - {""}, stack_stem(Path(path.stem)).removesuffix(".ome")
    stacks = [stack.name for stack in project.info.stacks]
    fitting = [name for name in stacks if stem == name or stem.endswith(f"-{name}")]
    of_file = next(iter(named)) if len(named) == 1 else max(fitting, key=len, default="")
    if not of_file and not named:
        raise FileError(
            path,
            f"{path} does not say which of {len(stacks)} stacks its objects are of; give it the name of their stack, such as "
            f"{stacks[0]}.geojson.",
        )
    if of_file:
        n_unnamed = sum(not row.stack for row in rows)
        labels.notes.append(
            f"{path.name}: {pluralize(n_unnamed, 'object')} without the name of a stack taken for those of {of_file}."
        )
    return [dataclasses.replace(row, stack=row.stack or of_file) for row in rows]


def _nuclei_of_stack(project: Project, stack: StackSource) -> tuple[NDArray[np.int64], NucleusProperties]:
    """Return the cells of a stack, in ascending order of their ids, and what is known of these nuclei."""
    table = project.table
    cells = np.array([cell for cell, file in enumerate(table.files) if file == stack.path], np.int64)
    cells = cells[np.argsort(table.indices[cells], kind="stable")]
    n = len(cells)
    nuclei = NucleusProperties(
        ids=table.indices[cells],
        voxels=table.volumes[cells],
        centroids=table.centroids[cells],
        mean_intensity=np.full(n, np.nan),
        touches_edge=np.zeros((n, 2), np.bool_),
        far_voxels=np.zeros(n, np.int64),
    )
    return cells, nuclei


def _aliases(stack: StackSource) -> tuple[str, ...]:
    """Return what nephros calls a stack: a project by its name, `nephros.save_cells` by its file."""
    return stack.name, PurePath(stack.path).name, stack.path


def _names_by_alias(project: Project) -> dict[str, str]:
    """Return the name of the stack that each alias is of, the first one's where several have it."""
    names = {stack.name: stack.name for stack in project.info.stacks}
    for stack in project.info.stacks:
        for alias in _aliases(stack):
            names.setdefault(alias, stack.name)
    return names


def _sources_of_features(project: Project) -> dict[str, tuple[str, int]]:
    """Return the name of the stack and the id in its mask of each id that `nephros.tissue.geojson` gives to a feature."""
    stacks = {stack.path: stack for stack in project.info.stacks}
    sources: dict[str, tuple[str, int]] = {}
    for file, index in zip(project.table.files, project.table.indices.tolist(), strict=True):
        if file in stacks:
            for alias in _aliases(stacks[file]):
                sources.setdefault(feature_id(alias, index), (stacks[file].name, index))
    return sources
