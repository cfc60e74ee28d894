"""Which cells a gallery shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.model_state import ModelState
from nephros.errors import InvalidArgument


@dataclass(frozen=True)
class Filters:
    """Conditions that a cell must fulfill, all of them."""

    unsure: bool = False
    """Its prediction set has another number of classes than one."""
    ood: bool = False
    """It is unlike the cells that the model's weights were trained on."""
    unlabeled: bool = False
    """It has no label."""
    mine: bool = False
    """`annotator` labeled it."""
    disagrees: bool = False
    """Two annotators gave it different classes."""
    class_id: int | None = None
    """Its label is of this class or, without a label, its prediction is."""
    annotator: str | None = None
    """Whose labels `mine` means."""

    def mask(self, state: ModelState) -> NDArray[np.bool_]:
        """Return (n,) whether each cell fulfills the conditions; InvalidArgument for `mine` without an annotator."""
        mask = np.ones(state.n_cells, dtype=np.bool_)
        if self.unsure:
            mask &= state.is_unsure
        if self.ood:
            mask &= state.is_ood
        if self.unlabeled:
            mask &= state.labels < 0
        if self.mine:
            if not self.annotator:
                raise InvalidArgument("annotator", self.annotator, "the name of the annotator whose labels are shown")
            mask &= state.labels_of(self.annotator) >= 0
        if self.disagrees:
            mask &= state.disagrees
        if self.class_id is not None:
            mask &= np.where(state.labels >= 0, state.labels, state.predicted) == self.class_id
        return mask
