"""Labeled nuclei of a project's stacks as GeoJSON for QuPath: the outline of each, on the slice of its centroid."""

from __future__ import annotations

import io
import zipfile
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
from nephros.tissue.geojson import FeatureCollectionWriter, iter_features, to_finest_level


def labeled_stacks(project: Project, labels: NDArray[np.int16]) -> list[StackSource]:
    """Return the stacks of which some cell has a label.

    Raises:
        IncompleteError: there is none.
    """
    stacks = [stack for stack in project.info.stacks if len(_labeled_cells(project, stack, labels))]
    if not stacks:
        raise IncompleteError(
            f"No labeled cell of {project.root} comes from a stack, and only nuclei of stacks have outlines."
        )
    return stacks


def write_label_geojson(
    project: Project, labels: NDArray[np.int16], file: IO[bytes], classes: Sequence[LabelClass] = ()
) -> int:
    """Write the labeled nuclei of the only stack that has some, or a zip archive of a file per stack; return how many they are.

    The outlines of two stacks are in the pixels of two images, so that QuPath needs a file for each.

    Args:
        project: the project.
        labels: (n,) class of each cell; -1 for none.
        file: is open for writing.
        classes: those that `labels` name by their ids; empty for the project's.

    Raises:
        IncompleteError: no labeled cell is of a stack.
        FileError: the mask of a stack is missing or damaged.
    """
    stacks = labeled_stacks(project, labels)
    if len(stacks) == 1:
        return write_stack_geojson(project, stacks[0], labels, file, classes)
    n_cells = 0
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for stack in stacks:
            with archive.open(zipfile.ZipInfo(f"{stack.name}.geojson"), "w", force_zip64=True) as entry:
                n_cells += write_stack_geojson(project, stack, labels, entry, classes)
    return n_cells


def write_stack_geojson(
    project: Project,
    stack: StackSource,
    labels: NDArray[np.int16],
    file: IO[bytes],
    classes: Sequence[LabelClass] = (),
) -> int:
    """Write the labeled nuclei of a stack as a collection, in the pixels of its file, and return how many they are.

    Arguments and errors are those of `write_label_geojson`.
    """
    cells = _labeled_cells(project, stack, labels)
    text = io.TextIOWrapper(file, encoding="utf-8", write_through=True)
    writer = FeatureCollectionWriter(text)
    _write_features(project, stack, cells, labels, classes or project.labels.classes(), writer)
    writer.close()
    text.detach()
    return len(cells)


def _labeled_cells(project: Project, stack: StackSource, labels: NDArray[np.int16]) -> NDArray[np.int64]:
    """Return the labeled cells of a stack in ascending order of their ids in the mask."""
    table = project.table
    cells = np.array(
        [cell for cell in np.flatnonzero(labels >= 0).tolist() if table.files[cell] == stack.path], np.int64
    )
    return cells[np.argsort(table.indices[cells], kind="stable")]


def _write_features(
    project: Project,
    stack: StackSource,
    cells: NDArray[np.int64],
    labels: NDArray[np.int16],
    label_classes: Sequence[LabelClass],
    writer: FeatureCollectionWriter,
) -> None:
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
    for feature, plane in iter_features(rows, footprints, [label_class.color for label_class in classes.values()]):
        writer.write(*to_finest_level(feature, plane, stack.level_step))
