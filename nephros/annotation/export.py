"""The labels of a project as files for other programs: a CSV table, QuPath's GeoJSON, and npz files to train on."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.cell_files import position_texts
from nephros.annotation.project import Project
from nephros.data.images.input_conversion import CONVERSION_ARRAY
from nephros.data.npz.image_names import NAMES_ARRAY, nucleus_name
from nephros.errors import FileError, IncompleteError, UnknownName
from nephros.escaping import escape_for_csv, escape_surrogates
from nephros.files import atomic_write

LabelFormat = Literal["csv", "geojson", "npz"]
FORMATS: tuple[LabelFormat, ...] = ("csv", "geojson", "npz")
LABEL_COLUMNS = (
    "cell", "class", "annotator", "time", "stack", "id", "file", "index", "split", "z", "y", "x", "z_um", "y_um", "x_um",
)  # fmt: skip
"""stack and id: of nuclei of stacks, as `nephros.prepare` and `nephros.finetune` take them with `classes`. file: its name,
after as many of its folders as tell it from the project's other files. The others as in
`nephros.annotation.cell_files.COLUMNS`."""
CELLS_ARRAY = "train_cells"
"""Array of an exported npz file with the number of each cell in its project."""
MIN_LABELS_PER_CLASS = 4
"""For fine-tuning: one for validation, one for testing, and two for the cross-validation."""


def export_labels(
    project: Project, label_format: LabelFormat, out: str | Path | IO[bytes], *, annotator: str | None = None
) -> int:
    """Write the labels of a project to a file, all of it or nothing, and return how many there are.

    Args:
        project: the project.
        label_format: ``csv``, a row per labeled cell, and only the names of the columns where there is none; ``geojson``, the
            outlines of labeled nuclei of stacks for QuPath; ``npz``, images and labels of labeled cells as MedMNIST's files
            have them, all of them as training images.
        out: path, or a binary file that is open for writing. GeoJSON of several stacks becomes a file per stack, as
            `export_files` explains, or a zip archive of them in an open file.
        annotator: whose labels; None takes each cell's latest label, whoever set it.

    Raises:
        UnknownName: there is no such format or annotator.
        IncompleteError: for GeoJSON and npz, no cell has a label or, for GeoJSON, no labeled cell is of a stack.
        FileError: the file can't be written, or files of the project can't be read.
    """
    if isinstance(out, str | Path):
        return sum(export_files(project, label_format, out, annotator=annotator).values())
    return _write(project, label_format, _checked_labels(project, label_format, annotator), out, annotator)


def export_files(
    project: Project, label_format: LabelFormat, out: str | Path, *, annotator: str | None = None
) -> dict[Path, int]:
    """Write the labels of a project as `export_labels` does, and return the files and the number of labels in each.

    GeoJSON of several stacks, whose outlines are in the pixels of several images, becomes a file for each, such as
    ``labels-K4.geojson`` beside ``labels-K5.geojson``.
    """
    labels, out = _checked_labels(project, label_format, annotator), Path(out)
    if label_format == "geojson":
        from nephros.annotation.geojson import labeled_stacks, write_stack_geojson

        if len(stacks := labeled_stacks(project, labels)) > 1:
            written = {}
            for stack in stacks:
                path = out.with_name(f"{out.stem}-{stack.name}{out.suffix}")
                with _opened(path) as file:
                    written[path] = write_stack_geojson(project, stack, labels, file)
            return written
    with _opened(out) as file:
        return {out: _write(project, label_format, labels, file, annotator)}


def _checked_labels(project: Project, label_format: str, annotator: str | None) -> NDArray[np.int16]:
    """Return the labels to export; raise UnknownName and IncompleteError as `export_labels` does."""
    if label_format not in FORMATS:
        raise UnknownName("label_format", str(label_format), FORMATS, kind="format of labels")
    labels = _labels(project, annotator)
    if label_format != "csv" and not (labels >= 0).any():
        raise IncompleteError(f"No cell of {project.root} has a label yet: label some.")
    return labels


def _write(
    project: Project, label_format: LabelFormat, labels: NDArray[np.int16], file: IO[bytes], annotator: str | None
) -> int:
    if label_format == "csv":
        file.write(_label_csv(project, labels, annotator).encode())
    elif label_format == "npz":
        np.savez_compressed(file, **_medmnist_arrays(project, labels))  # type: ignore[arg-type]
    else:
        from nephros.annotation.geojson import write_label_geojson

        return write_label_geojson(project, labels, file)
    return int((labels >= 0).sum())


def write_training_data(project: Project, out: str | Path) -> None:
    """Write images, labels and groups of all cells to an npz file for `nephros.finetune`.

    Its ``labels`` are names, empty for cells without a label, which self-training uses; ``names`` say which cell an image is, in
    the run's report; ``stack`` is in it where cells are of several stacks, so that a stack's cells stay together in the
    cross-validation.

    Raises:
        IncompleteError: fewer than two classes have a label, or one has fewer than MIN_LABELS_PER_CLASS.
        FileError: the file can't be written.
    """
    labels = project.labels.current()
    classes = [label_class for label_class in project.labels.classes() if label_class.n_labels]
    if len(classes) < 2:
        raise IncompleteError(
            f"Fine-tuning needs labels of two classes, and {project.name} has those of {len(classes)}: label more."
        )
    if rare := [f"{other.name} ({other.n_labels})" for other in classes if other.n_labels < MIN_LABELS_PER_CLASS]:
        raise IncompleteError(
            f"Fine-tuning needs {MIN_LABELS_PER_CLASS} labels of each class, and these have fewer: {', '.join(rare)}. "
            "Label more of them, merge them into other classes, or remove their labels."
        )
    names = {label_class.id: label_class.name for label_class in classes}
    arrays: dict[str, NDArray[Any]] = {
        "images": project.images(),
        "labels": np.array([names.get(label, "") for label in labels.tolist()]),
        "class_names": np.array(list(names.values())),
        NAMES_ARRAY: np.array(_cell_names(project)),
        CONVERSION_ARRAY: np.array(json.dumps(project.info.conversion.to_dict())),
    }
    if len(stack_names := _stack_names(project)) > 1:
        arrays["stack"] = np.array([stack_names.get(file, "") for file in project.table.files])
    with _opened(out) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _cell_names(project: Project) -> list[str]:
    """Return the name of each cell: the stack and the id of a nucleus, else the file and, where it has several cells, which."""
    table, stack_names = project.table, _stack_names(project)
    file_names, n_cells = shortest_paths(table.files), Counter(table.files)
    cell_names = []
    for file, index, split in zip(table.files, table.indices.tolist(), table.splits, strict=True):
        if file in stack_names:
            cell_names.append(nucleus_name(stack_names[file], index))
        elif n_cells[file] == 1:
            cell_names.append(file_names[file])
        else:
            cell_names.append(
                f"{file_names[file]}, {split} image {index}" if split else f"{file_names[file]}, image {index}"
            )
    return list(map(escape_surrogates, cell_names))


def _labels(project: Project, annotator: str | None) -> NDArray[np.int16]:
    if annotator is None:
        return project.labels.current()
    names = [name for name, _ in project.labels.annotators()]
    if annotator not in names:
        raise UnknownName("annotator", annotator, names)
    return project.labels.by_annotator(annotator)


def _label_csv(project: Project, labels: NDArray[np.int16], annotator: str | None) -> str:
    """Return a row per labeled cell as CSV text."""
    names = {label_class.id: label_class.name for label_class in project.labels.classes()}
    voxel_sizes = {stack.path: stack.voxel_size for stack in project.info.stacks}
    stack_names, table = _stack_names(project), project.table
    file_names = shortest_paths(table.files)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(LABEL_COLUMNS)
    for change in project.labels.latest_changes(annotator):
        cell = change.cell
        if cell >= len(labels) or labels[cell] < 0:
            continue
        file, index = table.files[cell], int(table.indices[cell])
        voxels, micrometers = position_texts(table.centroids[cell].tolist(), voxel_sizes.get(file))
        is_nucleus = file in stack_names
        texts = [names[int(labels[cell])], change.annotator, change.time, stack_names.get(file, "")]
        row = [cell, *map(escape_for_csv, texts), index if is_nucleus else "", escape_for_csv(file_names[file])]
        writer.writerow([*row, index, table.splits[cell], *voxels, *micrometers])
    return buffer.getvalue()


def shortest_paths(files: Iterable[str]) -> dict[str, str]:
    """Return each path's name, after as many of its folders as tell it from the other paths, with / between them."""
    parts = {file: PurePath(file).parts for file in files}
    n_parts, ambiguous = dict.fromkeys(parts, 0), list(parts)
    while ambiguous:
        for file in ambiguous:
            n_parts[file] += 1
        ends = Counter(parts[file][-n_parts[file] :] for file in ambiguous)
        ambiguous = [
            file for file in ambiguous if ends[parts[file][-n_parts[file] :]] > 1 and n_parts[file] < len(parts[file])
        ]
    return {file: str(PurePath(*parts[file][-n:])).replace("\\", "/") for file, n in n_parts.items()}


def _medmnist_arrays(project: Project, labels: NDArray[np.int16]) -> dict[str, NDArray[Any]]:
    """Return labeled cells as arrays of an npz file; classes without a label are left out, so that labels number the others."""
    cells = np.flatnonzero(labels >= 0)
    present, numbers = np.unique(labels[cells], return_inverse=True)
    names = {label_class.id: label_class.name for label_class in project.labels.classes()}
    return {
        "train_images": project.images(cells),
        "train_labels": numbers.reshape(-1, 1).astype(np.uint8 if len(present) <= 256 else np.uint16),
        "class_names": np.array([names[class_id] for class_id in present.tolist()]),
        CELLS_ARRAY: cells,
        CONVERSION_ARRAY: np.array(json.dumps(project.info.conversion.to_dict())),
    }


def _stack_names(project: Project) -> dict[str, str]:
    """Return the name of each stack by its path in the table of cells."""
    return {stack.path: stack.name for stack in project.info.stacks}


@contextlib.contextmanager
def _opened(out: str | Path | IO[bytes]) -> Iterator[IO[bytes]]:
    if not isinstance(out, str | Path):
        yield out
        return
    path = Path(out).expanduser().absolute()
    try:
        with atomic_write(path) as file:
            yield file
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError(path, f"{path} can't be written ({reason}); free some space, or choose another.") from error
