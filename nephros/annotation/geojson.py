"""Labeled nuclei of a project's stacks as GeoJSON for QuPath, each with the outline of its pixels in all slices."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.classes import LabelClass
from nephros.annotation.project import Project
from nephros.annotation.project_file import StackSource
from nephros.annotation.stack_copies import open_mask
from nephros.errors import IncompleteError
from nephros.tissue.footprints import Footprints
from nephros.tissue.geojson import FeatureCollectionWriter, iter_features, scale_feature


def write_label_geojson(
    project: Project, labels: NDArray[np.int16], file: IO[bytes], classes: Sequence[LabelClass] = ()
) -> int:
    """Write the labeled nuclei of all stacks as one collection, and return how many they are.

    Args:
        project: the project.
        labels: (n,) class of each cell; -1 for none.
        file: is open for writing.
        classes: those that `labels` name by their ids; empty for the project's.

    Raises:
        IncompleteError: no labeled cell is of a stack.
        FileError: the mask of a stack is missing or damaged.
    """
    cells_by_stack = {stack.name: _labeled_cells(project, stack, labels) for stack in project.info.stacks}
    n_cells = sum(map(len, cells_by_stack.values()))
    if not n_cells:
        raise IncompleteError(
            f"No labeled cell of {project.root} comes from a stack, and only nuclei of stacks have outlines."
        )
    text = io.TextIOWrapper(file, encoding="utf-8", write_through=True)
    writer = FeatureCollectionWriter(text)
    for stack in project.info.stacks:
        cells = cells_by_stack[stack.name]
        _write_stack(project, stack, cells, labels, classes or project.labels.classes(), writer)
    writer.close()
    text.detach()
    return n_cells


def _labeled_cells(project: Project, stack: StackSource, labels: NDArray[np.int16]) -> NDArray[np.int64]:
    """Return the labeled cells of a stack in ascending order of their ids in the mask."""
    table = project.table
    cells = np.array(
        [cell for cell in np.flatnonzero(labels >= 0).tolist() if table.files[cell] == stack.path], np.int64
    )
    return cells[np.argsort(table.indices[cells], kind="stable")]


def _write_stack(
    project: Project,
    stack: StackSource,
    cells: NDArray[np.int64],
    labels: NDArray[np.int16],
    label_classes: Sequence[LabelClass],
    writer: FeatureCollectionWriter,
) -> None:
    if not len(cells):
        return
    table, classes = project.table, {label_class.id: label_class for label_class in label_classes}
    mask, footprints = open_mask(project.root, stack), Footprints(table.indices[cells])
    for mask_slice in mask.slices():
        footprints.find_boxes(mask_slice)
    for mask_slice in mask.slices():
        footprints.fill(mask_slice)
    numbers = {class_id: number for number, class_id in enumerate(classes)}
    rows: list[dict[str, Any]] = []
    for cell in cells.tolist():
        z, y, x = table.centroids[cell].tolist()
        label_class = classes[int(labels[cell])]
        rows.append(
            {"id": int(table.indices[cell]), "stack": stack.name, "z": z, "y": y, "x": x, "cell": cell}
            | {
                "label": numbers[label_class.id],
                "class_name": label_class.name,
                "prediction_set": "",
                "ood_reasons": "",
            }
        )
    _, y_step, x_step = stack.level_step
    is_finest = y_step == x_step == 1  # QuPath opens the finest level, whichever was read here
    for feature, _ in iter_features(rows, footprints, [label_class.color for label_class in classes.values()]):
        writer.write(feature if is_finest else scale_feature(feature, (y_step, x_step)))
