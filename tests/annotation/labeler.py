"""A process that labels cells of a file of labels one by one, and prints each change once it is saved."""

from __future__ import annotations

import sys
from pathlib import Path

from nephros.annotation.labels import LabelStore


def label(path: Path, annotator: str, n_cells: int, n_changes: int) -> None:
    """Apply `n_changes` changes, two classes in turn, and print "SEQ CELL CLASS" for each."""
    store = LabelStore(path, lambda: n_cells)
    for number in range(n_changes):
        cell, class_id = number % n_cells, number % 2
        seq = store.apply([(cell, class_id), ((cell + 1) % n_cells, None)], annotator)
        print(seq, cell, class_id, flush=True)
    store.close()


if __name__ == "__main__":
    label(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
