"""From a stack and its mask to a picture a nucleus, as TissueMNIST's were made: 32x32x7, maximum, 28x28, 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.data.cell_image import resize_images
from nephros.errors import NephrosError
from nephros.microscopy.crops import CROP_SHAPE
from nephros.microscopy.intensity import ContrastLimits, IntensityHistogram
from nephros.microscopy.measurements import NucleusProperties
from nephros.microscopy.nuclei import ProgressTracker, SegmentedStack, extract_nuclei
from nephros.microscopy.reader import Stack
from nephros.microscopy.voxel_size import VoxelScaling

CELL_IMAGE_SIZE = 28


@dataclass(frozen=True)
class NucleusImages:
    """The nuclei that were kept, and of what they are a part."""

    images: NDArray[np.uint8]
    """(n, 28, 28)."""
    nuclei: NucleusProperties
    """n of them, in the same order."""
    contrast_limits: ContrastLimits
    segmented: SegmentedStack
    """All nuclei of the mask."""
    is_kept: NDArray[np.bool_]
    """Which of all they are."""


def make_nucleus_images(
    stack: Stack,
    mask: Stack,
    scale: VoxelScaling,
    scratch_dir: Path,
    progress: ProgressTracker,
    *,
    black_level: float | None = None,
    white_level: float | None = None,
    percentiles: tuple[float, float] | None = None,
    drop_border: bool = False,
) -> NucleusImages:
    """Cut the nuclei out; the arguments that can be left out are those of `nephros.prepare`.

    Args:
        room: a folder, which gets a file with the crops.

    Raises:
        UserError: the two files don't belong together or can't be read, or no nucleus is left.
    """
    segmented = extract_nuclei(stack, mask, scale.step, scratch_dir, progress)
    is_kept = ~segmented.at_border if drop_border else np.ones(len(segmented.nuclei), dtype=np.bool_)
    if not is_kept.any():
        raise NephrosError(
            f"All {len(is_kept):,} nuclei of {stack.path.name} lie at the border; leave --drop-border out."
        )
    selected = segmented.at_border if segmented.at_border.all() else ~segmented.at_border
    contrast_limits = IntensityHistogram(segmented.crops, segmented.intensity_range, selected).contrast_limits(
        black_level, white_level, percentiles
    )
    images = np.concatenate(
        [
            resize_images(contrast_limits.apply(crops), CELL_IMAGE_SIZE)
            for crops in segmented.crops.projections.iter_batches(is_kept)
        ]
    )
    return NucleusImages(images, segmented.nuclei.select(is_kept), contrast_limits, segmented, is_kept)


def quality_warnings(stack: Stack, scale: VoxelScaling) -> list[str]:
    """Return a sentence for each thing about a stack that makes its pictures unlike the training data's."""
    warnings: list[str] = []
    if stack.shape[0] == 1:
        warnings.append("One slice only: it stands for the maximum over seven, so nuclei look dimmer and smaller.")
    elif stack.shape[0] < CROP_SHAPE[0] * scale.step[0]:
        warnings.append(f"The stack's {stack.shape[0]} slices are fewer than a crop's; the rest of it is black.")
    if scale.stack_voxel_size is None:
        warnings.append(
            "The voxel size is unknown and nothing was resampled: answers hold only if it is the training data's."
        )
    elif min(scale.step) < 0.5:
        warnings.append("The stack is over twice as coarse as the training data: its nuclei lack detail.")
    return warnings
