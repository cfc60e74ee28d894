"""Splits drawn here: images assigned to train, val and test by class, where their source leaves that open."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified_split(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Assign images to train, val and test (0, 1, 2) in the ratio 7:1:2 within each class, at least one to each.

    Args:
        labels: (n,) int64; every class needs at least three images.
        seed: the same labels and seed give the same split.

    Returns:
        (n,) int64, the split of each image.
    """
    rng = np.random.default_rng(seed)
    split_index = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        indices = rng.permutation(np.flatnonzero(labels == label))
        n_val, n_test = (max(1, (len(indices) * tenths + 5) // 10) for tenths in (1, 2))
        split_index[indices[:n_val]] = 1
        split_index[indices[n_val : n_val + n_test]] = 2
    return split_index
