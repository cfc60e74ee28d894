"""The classes that a run predicts for a project's nuclei, as GeoJSON: a process with the arguments PROJECT CSV OUT."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.geojson import write_label_geojson
from nephros.annotation.project import Project
from nephros.files import atomic_write


def main() -> None:
    """Write the predictions in a table, whose rows are the project's cells, as outlines with classes."""
    root, table, out = sys.argv[1:]
    project = Project.open(root)
    try:
        with atomic_write(out) as file:
            write_label_geojson(project, predicted_labels(project, Path(table)), file)
    finally:
        project.close()


def predicted_labels(project: Project, table: Path) -> NDArray[np.int16]:
    """Return the class (n,) that a table of `nephros.predict` gives each cell; -1 for classes that the project has no more."""
    ids = {label_class.name: label_class.id for label_class in project.labels.classes()}
    labels = np.full(project.n_cells, -1, np.int16)
    with table.open(encoding="utf-8", newline="") as file:
        for cell, row in enumerate(csv.DictReader(file)):
            if cell < len(labels):
                labels[cell] = ids.get(row["class_name"], -1)
    return labels


if __name__ == "__main__":
    main()
