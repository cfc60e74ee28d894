"""Synthetic stacks of any size."""

from __future__ import annotations

import numpy as np
import pytest

from nephros.microscopy.synthetic import SyntheticStack


@pytest.mark.parametrize("shape", [(1, 8, 8), (4, 32, 32), (4, 48, 48), (12, 96, 96)])
def test_small_stacks_have_nuclei(shape: tuple[int, int, int]) -> None:
    stack = SyntheticStack(shape)
    assert len(stack.intensities) >= 1
    images, masks = (np.stack(slices) for slices in zip(*stack.slices(), strict=True))
    assert images.shape == masks.shape == shape
    assert masks.max() >= 1
