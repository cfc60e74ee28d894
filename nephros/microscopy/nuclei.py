"""All nuclei of a stack: measured, cut out, and told apart by whether the border may have cost them something."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import NephrosError
from nephros.microscopy.crops import CROP_SHAPE, NucleusCrops, extract_crops
from nephros.microscopy.measurements import NucleusProperties, check_mask_matches_stack, measure_nuclei
from nephros.microscopy.reader import Stack
from nephros.microscopy.voxel_size import VoxelSize

ProgressTracker = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Items, what is done with them, and how many there are -> the same items, while a bar is shown."""


@dataclass(frozen=True)
class SegmentedStack:
    """What two readings of a stack find."""

    nuclei: NucleusProperties
    crops: NucleusCrops
    intensity_range: tuple[float, float]
    """Least and greatest pixel of the stack."""
    at_border: NDArray[np.bool_]
    """(n,): the stack's edge touches the nucleus, or its crop reaches beyond the stack and is black there."""


def extract_nuclei(
    stack: Stack,
    mask: Stack,
    step: VoxelSize,
    scratch_dir: Path,
    progress: ProgressTracker = lambda items, what, total: items,
) -> SegmentedStack:
    """Read stack and mask once, and the stack again.

    Args:
        step: how many of the stack's voxels a training voxel spans.
        folder: gets a file with the crops, 4 KiB a nucleus.

    Raises:
        UserError: the two don't belong together, or the mask's pieces can't be nuclei.
    """
    check_mask_matches_stack(stack, mask)
    slice_pairs = zip(stack.slices(), mask.slices(), strict=True)
    nuclei, intensity_range = measure_nuclei(stack, mask, progress(slice_pairs, "Measuring nuclei", stack.shape[0]))
    _check_nucleus_sizes(mask, nuclei, step)
    slices = progress(stack.slices(), "Cutting crops", stack.shape[0])
    crops = extract_crops(nuclei, stack.shape, step, intensity_range, slices, scratch_dir / "crops.raw")
    clipped = nuclei.touches_edge | crops.padded
    # In a stack with fewer slices than a crop the third dimension tells nothing: every nucleus would lie at the border.
    is_deep = stack.shape[0] >= CROP_SHAPE[0] * step[0]
    return SegmentedStack(nuclei, crops, intensity_range, clipped[:, 1] | (clipped[:, 0] & is_deep))


def _check_nucleus_sizes(mask: Stack, nuclei: NucleusProperties, step: VoxelSize) -> None:
    """Raise UserError where the mask's pieces are too large to be nuclei."""
    crop_voxels = float(np.prod(CROP_SHAPE) * np.prod(step))
    if len(nuclei) == 1 and nuclei.voxels[0] > crop_voxels / 2:
        raise NephrosError(
            f"{mask.path} has one number only, {nuclei.ids[0]}, on {nuclei.voxels[0]:,} voxels: "
            "give each nucleus its own number, such as with skimage.measure.label."
        )
    if np.median(nuclei.voxels) > crop_voxels:
        raise NephrosError(
            f"{mask.path} marks pieces of {np.median(nuclei.voxels):,.0f} voxels (median), more than a whole crop has "
            f"({crop_voxels:,.0f}): check the mask and --voxel-size."
        )
