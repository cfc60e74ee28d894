"""The labels of a project at one moment, read in as little time as a label leaves."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING

import numpy as np

from nephros.annotation.model_state import FeatureSpace, Int64s, ModelState

if TYPE_CHECKING:
    from nephros.annotation.project import Project


class LabelSnapshots:
    """Reads the labels of a project into new states; only the changes since the last one are read from the file."""

    def __init__(self, project: Project) -> None:
        """Read nothing yet."""
        self._project, self._lock = project, threading.Lock()
        self._last_seq, self._last_change = 0, np.zeros(0, np.int64)
        self._ranks = np.zeros(0, np.int64)

    def is_stale(self, state: ModelState) -> bool:
        """Return whether labels or classes have changed since a state was read."""
        return self._project.labels.revision != state.label_revision

    def read(self, space: FeatureSpace, revision: int) -> ModelState:
        """Return a state with the labels of now, and without predictions."""
        labels = self._project.labels
        with self._lock:
            # Read first: a change that comes in between makes the state stale, and it is read once more.
            label_revision, n_cells = labels.revision, self._project.n_cells
            changes = labels.changes_since(self._last_seq)
            if (n_known := 1 + max((change.cell for change in changes), default=-1)) > len(self._last_change):
                self._last_change = _padded(self._last_change, n_known, 0)
            for change in changes:
                self._last_change[change.cell], self._last_seq = change.seq, change.seq
            by_annotator = {
                name: _padded(labels.by_annotator(name).astype(np.int64), n_cells, -1)
                for name, _ in labels.annotators()
            }
            return ModelState(
                revision,
                n_cells,
                _padded(labels.current().astype(np.int64), n_cells, -1),
                _padded(self._last_change, n_cells, 0),
                by_annotator,
                space,
                positions=self._positions(n_cells),
                label_revision=label_revision,
            )

    def brought_up_to_date(self, state: ModelState) -> ModelState:
        """Return a state with the labels and cells of now, and the predictions of before: what readers see until the next fit."""
        if not self.is_stale(state) and state.n_cells == self._project.n_cells:
            return state
        current = self.read(state.space, state.revision)
        return dataclasses.replace(
            state,
            n_cells=current.n_cells,
            labels=current.labels,
            last_change=current.last_change,
            labels_by_annotator=current.labels_by_annotator,
            positions=current.positions,
        )

    def _positions(self, n_cells: int) -> Int64s:
        """Return the rank of each cell by file, in the order of their first cells, then by its row or id there, then by cell."""
        if len(self._ranks) == n_cells:
            return self._ranks
        table, numbers = self._project.table, dict[tuple[str, str], int]()
        keys = zip(table.files[:n_cells], table.splits[:n_cells], strict=True)
        files = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
        order = np.lexsort((np.arange(len(files)), table.indices[:n_cells], files))
        ranks = np.empty(len(files), np.int64)
        ranks[order] = np.arange(len(files))
        self._ranks = ranks
        return ranks


def _padded(values: Int64s, n: int, value: int) -> Int64s:
    """Return the first `n` values as a copy, with `value` for those that are missing."""
    return np.pad(values[:n], (0, max(0, n - len(values))), constant_values=value)
