"""What a predictor returns for one batch of cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PredictionBatch:
    """Predictions for n cells; a slice, mask or array of indices selects some of them."""

    probabilities: NDArray[np.float32]
    """(n, classes), calibrated; each row sums to 1."""
    features: NDArray[np.float32] | None
    """(n, d) input of the last linear layer; None for networks without one."""
    class_activation_maps: NDArray[np.float32] | None
    """(n, classes, h', w'); None for networks that don't end in global average pooling."""
    is_ood: NDArray[np.bool_]
    """(n,) whether a cell is out of distribution, that is, unlike the cells that the model was trained on."""
    ood_reasons: tuple[tuple[str, ...], ...]
    """For each of the n cells, in which ways it is out of distribution; empty if it is not."""

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def is_finite(self) -> NDArray[np.bool_]:
        """(n,) whether all outputs of a cell are finite; other rows are not predictions, but a sign of damaged weights."""
        finite = np.ones(len(self), dtype=np.bool_)
        for output in (self.probabilities, self.features, self.class_activation_maps):
            if output is not None:
                finite &= np.isfinite(output).all(axis=tuple(range(1, output.ndim)))
        return finite

    def __getitem__(self, rows: slice | list[int] | NDArray[np.int64] | NDArray[np.bool_]) -> PredictionBatch:
        """Return the predictions of some cells, as views where `rows` is a slice."""
        return PredictionBatch(
            self.probabilities[rows],
            None if self.features is None else self.features[rows],
            None if self.class_activation_maps is None else self.class_activation_maps[rows],
            self.is_ood[rows],
            tuple(self.ood_reasons[i] for i in np.arange(len(self))[rows]),
        )
