"""Dataset shift: whether the cells of each file, taken together, look like those that a model was trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nephros.inference.model_card import ModelCard

MIN_CELLS, MAX_CELLS_PER_FILE, MAX_FILES = 10, 2000, 50
"""Cells that a file needs to be checked; how many of them are used; and how many files are checked."""
SMALL_FILES = f"files of fewer than {MIN_CELLS} cells"
"""All of them are checked together."""


class DatasetShiftCheck:
    """Collects cells by file, and compares each file with the training data."""

    def __init__(self, card: ModelCard) -> None:
        """Take the model's card: only TissueMNIST's statistics are known, so other models get no warnings."""
        input_spec = card["input"]
        self._has_reference = card["data"].get("key") == "tissuemnist" and (
            input_spec["height"],
            input_spec["width"],
        ) == (28, 28)
        self._cells_by_file: dict[str, list[NDArray[np.uint8]]] = {}
        self._warnings_by_file: dict[str, list[str]] = {}

    def add(self, files: Sequence[str], cells: NDArray[np.uint8]) -> None:
        """Add (n, 28, 28) cells and the names of their n files."""
        if not self._has_reference:
            return
        counts = Counter(files)
        names = [name if counts[name] >= MIN_CELLS or name in self._cells_by_file else SMALL_FILES for name in files]
        for name in dict.fromkeys(names):
            batches = self._cells_by_file.get(name, [])
            remaining = MAX_CELLS_PER_FILE - sum(map(len, batches))
            if remaining > 0 and (batches or len(self._cells_by_file) < MAX_FILES):
                rows = [i for i, other_name in enumerate(names) if other_name == name][:remaining]
                batches = self._cells_by_file.setdefault(name, [])
                batches.append(cells[rows])
                if (
                    len(rows) == remaining
                ):  # at once, since this thread has time while the network predicts the next cells
                    self._warnings_by_file[name] = _file_warnings(name, batches)

    def warnings(self) -> list[str]:
        """Return a sentence, beginning with the file's name, for each way in which its cells differ from the training data."""
        messages = []
        for name, batches in self._cells_by_file.items():
            warnings = self._warnings_by_file.get(name)
            messages += _file_warnings(name, batches) if warnings is None else warnings
        return messages


def _file_warnings(name: str, batches: Sequence[NDArray[np.uint8]]) -> list[str]:
    from nephros.data.reference_statistics import shift_warnings

    cells = np.concatenate(batches)
    return [f"{name}: {message}" for message in (shift_warnings(cells) if len(cells) >= MIN_CELLS else [])]
