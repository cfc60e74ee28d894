"""Whether the cells of each file, as a whole, look like those that a model learnt from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_CELLS, MAX_CELLS_PER_FILE, MAX_FILES = 10, 2000, 50
"""Cells from which a file is compared; how many of its cells are, at most; and how many files, at most."""
SMALL_FILES = "small files"
"""All files of fewer cells, taken together."""


class DatasetShiftCheck:
    """Cells by the file that they came from, as far as they are looked at."""

    def __init__(self, card: dict[str, Any]) -> None:
        """Take the model's card: what TissueMNIST's cells look like is known, other data's is not."""
        input_spec = card["input"]
        self._has_reference = card["data"].get("key") == "tissuemnist" and (
            input_spec["height"],
            input_spec["width"],
        ) == (28, 28)
        self._cells_by_file: dict[str, list[NDArray[np.uint8]]] = {}

    def add(self, files: Sequence[str], cells: NDArray[np.uint8]) -> None:
        """Take (n, 28, 28) cells and the names of their n files."""
        if not self._has_reference:
            return
        counts = Counter(files)
        names = [name if counts[name] >= MIN_CELLS or name in self._cells_by_file else SMALL_FILES for name in files]
        for name in dict.fromkeys(names):
            batches = self._cells_by_file.get(name, [])
            remaining = MAX_CELLS_PER_FILE - sum(map(len, batches))
            if remaining > 0 and (batches or len(self._cells_by_file) < MAX_FILES):
                rows = [i for i, other_name in enumerate(names) if other_name == name][:remaining]
                self._cells_by_file.setdefault(name, []).append(cells[rows])

    def warnings(self) -> list[str]:
        """Return a sentence for each way in which a file's cells differ as a whole from the training data's."""
        from nephros.data.reference_statistics import shift_warnings

        messages = []
        for name, batches in self._cells_by_file.items():
            cells = np.concatenate(batches)
            messages += [
                f"warning: {name}: {message}" for message in (shift_warnings(cells) if len(cells) >= MIN_CELLS else [])
            ]
        return messages
