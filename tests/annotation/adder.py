"""A process that adds the cells of a file to a project, and prints a line when it begins."""

from __future__ import annotations

import sys

from nephros.annotation.project import Project

if __name__ == "__main__":
    project = Project.open(sys.argv[1])
    print("adding", flush=True)
    project.add_cells(sys.argv[2])
