"""Whether the cells of each file, as a whole, look like those that a model learnt from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENOUGH, LOOKED_AT, FILES = 10, 2000, 50
"""Cells from which a file is compared; how many of its cells are, at most; and how many files, at most."""
PICTURES = "the pictures"
"""All files of fewer cells, taken together."""


class Compared:
    """Cells by the file that they came from, as far as they are looked at."""

    def __init__(self, card: dict[str, Any]) -> None:
        """Take the model's card: what TissueMNIST's cells look like is known, other data's is not."""
        shape = card["input"]
        self._known = card["data"].get("key") == "tissuemnist" and (shape["height"], shape["width"]) == (28, 28)
        self._cells: dict[str, list[NDArray[np.uint8]]] = {}

    def add(self, files: Sequence[str], cells: NDArray[np.uint8]) -> None:
        """Take (n, 28, 28) cells and the names of their n files."""
        if not self._known:
            return
        counts = Counter(files)
        names = [name if counts[name] >= ENOUGH or name in self._cells else PICTURES for name in files]
        for name in dict.fromkeys(names):
            have = self._cells.get(name, [])
            left = LOOKED_AT - sum(map(len, have))
            if left > 0 and (have or len(self._cells) < FILES):
                rows = [i for i, other in enumerate(names) if other == name][:left]
                self._cells.setdefault(name, []).append(cells[rows])

    def warnings(self) -> list[str]:
        """Return a sentence for each way in which a file's cells differ as a whole from the training data's."""
        from nephros.data.reference_statistics import outside

        found = []
        for name, parts in self._cells.items():
            cells = np.concatenate(parts)
            found += [f"warning: {name}: {words}" for words in (outside(cells) if len(cells) >= ENOUGH else [])]
        return found
