"""The labels of a file that are of cells of a project, as they are collected row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FileLabels:
    """The labels of a file that are of cells of a project."""

    cells: tuple[int, ...]
    class_of_cell: tuple[str, ...]
    """The name of each cell's class."""
    annotators: tuple[str, ...]
    """Who labeled each cell; "" where the file doesn't say."""
    class_names: tuple[str, ...]
    """All names of classes in the file, in the order in which they appear."""
    n_missing: int
    """Number of labels of other cells."""
    notes: tuple[str, ...] = ()


class LabelCollector:
    """Collects labels; of several of one cell by one annotator, the last one counts."""

    def __init__(self) -> None:
        self._labels: dict[tuple[int, str], str] = {}
        self._names: dict[str, None] = {}
        self.n_missing = 0
        self.notes: list[str] = []

    def add(self, cells: Sequence[int], class_name: str, annotator: str = "") -> None:
        """Add the label of some cells; of none it counts as missing."""
        self._names[class_name] = None
        self.n_missing += not cells
        for cell in cells:
            self._labels.pop((cell, annotator), None)
            self._labels[cell, annotator] = class_name

    def result(self) -> FileLabels:
        """Return what was collected."""
        return FileLabels(
            tuple(cell for cell, _ in self._labels),
            tuple(self._labels.values()),
            tuple(annotator for _, annotator in self._labels),
            tuple(self._names),
            self.n_missing,
            tuple(self.notes),
        )
