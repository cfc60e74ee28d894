"""All nuclei of a stack: measured, cut out, and told apart by whether the border may have cost them something."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import UserError
from nephros.microscopy.crops import WINDOW, Cut, cut
from nephros.microscopy.measurements import Nuclei, check_pair, measure
from nephros.microscopy.reader import Stack
from nephros.microscopy.voxel_size import Voxels

Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Items, what is done with them, and how many there are -> the same items, while a bar is shown."""


@dataclass(frozen=True)
class Cells:
    """What two readings of a stack find."""

    nuclei: Nuclei
    crops: Cut
    bounds: tuple[float, float]
    """Least and greatest pixel of the stack."""
    border: NDArray[np.bool_]
    """(n,): the stack's edge touches the nucleus, or its crop reaches beyond the stack and is black there."""


def find(
    stack: Stack,
    mask: Stack,
    step: Voxels,
    folder: Path,
    progress: Progress = lambda items, what, total: items,
) -> Cells:
    """Read stack and mask once, and the stack again.

    Args:
        step: how many of the stack's voxels a training voxel spans.
        folder: gets a file with the crops, 4 KiB a nucleus.

    Raises:
        UserError: the two don't belong together, or the mask's pieces can't be nuclei.
    """
    check_pair(stack, mask)
    pairs = zip(stack.slices(), mask.slices(), strict=True)
    nuclei, bounds = measure(stack, mask, progress(pairs, "Measuring nuclei", stack.shape[0]))
    _check_sizes(mask, nuclei, step)
    slices = progress(stack.slices(), "Cutting crops", stack.shape[0])
    crops = cut(nuclei, stack.shape, step, bounds, slices, folder / "crops.raw")
    out = nuclei.at_edge | crops.padded
    # In a stack with fewer slices than a crop the third dimension tells nothing: every nucleus would lie at the border.
    deep = stack.shape[0] >= WINDOW[0] * step[0]
    return Cells(nuclei, crops, bounds, out[:, 1] | (out[:, 0] & deep))


def _check_sizes(mask: Stack, nuclei: Nuclei, step: Voxels) -> None:
    """Raise UserError where the mask's pieces are too large to be nuclei."""
    window = float(np.prod(WINDOW) * np.prod(step))
    if len(nuclei) == 1 and nuclei.voxels[0] > window / 2:
        raise UserError(
            f"{mask.path} has one number only, {nuclei.ids[0]}, on {nuclei.voxels[0]:,} voxels: "
            "give each nucleus its own number, such as with skimage.measure.label."
        )
    if np.median(nuclei.voxels) > window:
        raise UserError(
            f"{mask.path} marks pieces of {np.median(nuclei.voxels):,.0f} voxels (median), more than a whole crop has "
            f"({window:,.0f}): check the mask and --voxel-size."
        )
