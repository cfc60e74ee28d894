"""Why a cell was called what it was, as a report shows it: where the answer came from, and which training cells are like it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SimilarCell:
    """A training cell that the network sees as similar."""

    image: NDArray[np.uint8]
    label: int
    similarity: float
    """1 the same, 0 unrelated."""


@dataclass(frozen=True)
class CellExplanation:
    """Of one cell and the class that it was called."""

    saliency: NDArray[np.float32]
    """(h, w) from 0 to 1, where the picture speaks for that class."""
    method: str
    """``class activation`` or ``occlusion``."""
    similar_cells: tuple[SimilarCell, ...]
    """The nearest first."""


Explainer = Callable[[NDArray[np.uint8], NDArray[np.int64]], list[CellExplanation]]
"""(n, h, w) or (n, h, w, 3) uint8 cells, and the classes (n,) that they were called -> a Reason each."""
