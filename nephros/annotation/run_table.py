"""The predictions of a run for a project's cells as a table that says which cell each is: a process with PROJECT CSV OUT."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

from nephros.annotation.export import shortest_paths
from nephros.annotation.project import Project
from nephros.escaping import escape_for_csv
from nephros.files import atomic_write

CELL_COLUMNS = ("cell", "stack", "id", "file", "index", "split")
"""As in `nephros.annotation.export.LABEL_COLUMNS`."""
_REPLACED = ("file", "index", "split", "label")
"""Columns of `nephros.predict` that are of the npz file with all cells, and not of the cells."""


def main() -> None:
    """Write the table."""
    root, table, out = sys.argv[1:]
    project = Project.open(root)
    try:
        with atomic_write(out) as file:
            file.write(prediction_table(project, Path(table)).encode())
    finally:
        project.close()


def prediction_table(project: Project, table: Path) -> str:
    """Return a table of `nephros.predict`, whose rows are the project's cells, with where each cell is from."""
    stacks, cells = {stack.path: stack.name for stack in project.info.stacks}, project.table
    file_names = shortest_paths(cells.files)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        kept = [name for name in reader.fieldnames or () if name not in _REPLACED]
        writer.writerow([*CELL_COLUMNS, *kept])
        for cell, row in enumerate(reader):
            path, index = cells.files[cell], int(cells.indices[cell])
            source = [escape_for_csv(stacks.get(path, "")), index if path in stacks else ""]
            place = [escape_for_csv(file_names[path]), index, cells.splits[cell]]
            writer.writerow([cell, *source, *place, *(row[name] for name in kept)])
    return buffer.getvalue()


if __name__ == "__main__":
    main()
