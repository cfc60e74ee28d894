"""Labels from files: of this or another project, of QuPath and other programs, and of npz files of labeled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nephros.annotation.classes import MAX_CLASSES, LabelClass, check_name
from nephros.annotation.imported_files import read_file_labels
from nephros.annotation.project import Project
from nephros.data.class_names import class_name_fault, similar_name_warnings
from nephros.errors import FileError, InvalidArgument
from nephros.text_tables import pluralize

DEFAULT_ANNOTATOR = "imported"
"""Whose labels those of a file are that doesn't name an annotator."""


@dataclass(frozen=True)
class ImportReport:
    """What became of the labels of a file."""

    n_labels: int
    """Cells whose label was set."""
    n_unchanged: int
    """Cells that had the same label of the same annotator already."""
    n_missing: int
    """Labels of cells that the project doesn't have, or that can't be told apart."""
    new_classes: tuple[str, ...]
    """Names of classes that were added."""
    notes: tuple[str, ...]
    """What was assumed or left out; one sentence each."""


def import_labels(project: Project, path: str | Path, annotator: str | None = None) -> ImportReport:
    """Set the labels of cells as a file says; they are changes like any other.

    A CSV table is as `nephros.annotation.export.export_labels` writes it, or has the columns id and class of nuclei (and stack,
    where there are several), their centroids, or file and label. Ids count only where the nuclei are at the positions that the
    file says, since those of another mask are of other nuclei. GeoJSON is QuPath's. An npz file has images and labels: of a file
    whose images are cells of the project by their positions, of any other by their pixels.

    Args:
        project: the project. Classes that it doesn't have are added.
        path: of the file.
        annotator: whose labels they are; None takes the column annotator of the table, or DEFAULT_ANNOTATOR.

    Raises:
        FileError: the file can't be read, or none of its labels is of a cell of the project.
        InvalidArgument: a name can't be used, or there would be too many classes.
    """
    path = Path(path).expanduser().absolute()
    if annotator is not None:
        annotator = check_name("annotator", annotator)
    labels = read_file_labels(project, path)
    if not labels.class_names:
        raise FileError(path, f"{path} has no labels.")
    if not labels.cells:
        raise FileError(
            path,
            f"{path} has {labels.n_missing:,} labels, none of which belongs to a cell of {project.root}; add the cells first, or "
            "check that the file is for the same cells.",
        )
    for who in set(labels.annotators) - {""}:
        check_name("annotator", who)
    classes, new_classes = _resolve_classes(project, path, labels.class_names)
    by_annotator: dict[str, list[tuple[int, int]]] = {}
    for cell, name, who in zip(labels.cells, labels.class_of_cell, labels.annotators, strict=True):
        by_annotator.setdefault(annotator or who or DEFAULT_ANNOTATOR, []).append((cell, classes[name]))
    n_labels = n_unchanged = 0
    for who, changes in by_annotator.items():
        current, theirs = project.labels.current(), project.labels.by_annotator(who)
        new = [(cell, class_id) for cell, class_id in changes if not current[cell] == theirs[cell] == class_id]
        if new:
            project.labels.apply(new, who)
        n_labels, n_unchanged = n_labels + len(new), n_unchanged + len(changes) - len(new)
    notes = (*labels.notes, *similar_name_warnings(label_class.name for label_class in project.labels.classes()))
    return ImportReport(n_labels, n_unchanged, labels.n_missing, new_classes, notes)


def _resolve_classes(project: Project, path: Path, names: Sequence[str]) -> tuple[Mapping[str, int], tuple[str, ...]]:
    """Return the class of each name, after adding those that the project doesn't have, and the names of these.

    Raises:
        InvalidArgument: a name can't be that of a class, or there would be too many.
    """
    existing: list[LabelClass] = project.labels.classes()
    checked: dict[str, str] = {}
    for name in names:
        try:
            checked[name] = check_name("name", name)
        except InvalidArgument as error:
            raise InvalidArgument("class", error.value, error.expected, source=str(path)) from error
    by_name = {name: _find(text, existing) for name, text in checked.items()}
    n_new = len({checked[name] for name, class_id in by_name.items() if class_id is None})
    if len(existing) + n_new > MAX_CLASSES:
        raise InvalidArgument("class", f"{n_new:,} new names", f"of at most {MAX_CLASSES:,} classes", source=str(path))
    new_names = []
    for name, class_id in by_name.items():
        if class_id is None:
            added = _find(checked[name], project.labels.classes())  # perhaps by another spelling before
            if added is None:
                added = project.labels.add_class(checked[name]).id
                new_names.append(checked[name])
            by_name[name] = added
    return {name: class_id for name, class_id in by_name.items() if class_id is not None}, tuple(new_names)


def _find(name: str, classes: Sequence[LabelClass]) -> int | None:
    """Return the id of the class whose name looks the same; None where there is none."""
    return next((c.id for c in classes if c.name == name or class_name_fault([name, c.name])), None)


def describe_report(report: ImportReport) -> str:
    """Return what was imported, as one sentence."""
    parts = [f"{pluralize(report.n_labels, 'label')} set"]
    parts += [f"{report.n_unchanged:,} as they were"] if report.n_unchanged else []
    parts += [f"{report.n_missing:,} of cells that the project doesn't have"] if report.n_missing else []
    parts += [f"new classes: {', '.join(report.new_classes[:10])}"] if report.new_classes else []
    return "; ".join(parts)
