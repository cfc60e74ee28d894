"""The classes that a run predicts for a project's nuclei, as GeoJSON, zipped for several stacks; arguments: PROJECT CSV OUT."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.classes import LabelClass, next_color
from nephros.annotation.geojson import write_label_geojson
from nephros.annotation.project import Project
from nephros.escaping import unescape_from_csv
from nephros.files import atomic_write


def main() -> None:
    """Write the predictions in a table, whose rows are the project's cells, as outlines with classes."""
    root, table, out = sys.argv[1:]
    project = Project.open(root)
    try:
        with atomic_write(out) as file:
            labels, classes = predicted_classes(project, Path(table))
            write_label_geojson(project, labels, file, classes)
    finally:
        project.close()


def predicted_classes(project: Project, table: Path) -> tuple[NDArray[np.int16], list[LabelClass]]:
    """Return the class (n,) that a table of `nephros.predict` gives each cell, -1 for none, and the classes.

    The classes have the names that the run knows, which the project may have changed since, and the colors that the project
    gives these names.
    """
    colors = {label_class.name: label_class.color for label_class in project.labels.classes()}
    classes: dict[str, LabelClass] = {}
    labels = np.full(project.n_cells, -1, np.int16)
    with table.open(encoding="utf-8", newline="") as file:
        for cell, row in zip(range(len(labels)), csv.DictReader(file), strict=False):
            if not (name := unescape_from_csv(row["class_name"])):
                continue
            color = colors.setdefault(name, next_color(list(colors.values())))
            labels[cell] = classes.setdefault(name, LabelClass(len(classes), name, color, 0)).id
    return labels, list(classes.values())


if __name__ == "__main__":
    main()
