"""From a stack and its mask to nuclei: measured, cropped, and turned into 28x28 8-bit images as TissueMNIST's were."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.images.transforms import resize_images
from nephros.errors import FileError, IncompatibleError
from nephros.microscopy.crops import CROP_SHAPE, CropFile, NucleusCrops, extract_crops
from nephros.microscopy.intensity import ContrastLimits, IntensityHistogram
from nephros.microscopy.measurements import NucleusProperties, check_mask_matches_stack, measure_nuclei
from nephros.microscopy.pieces import check_pieces, scattered_text
from nephros.microscopy.stack import Stack
from nephros.microscopy.voxel_size import VoxelScaling, VoxelSize

CELL_IMAGE_SIZE = 28
"""Pixels per side of an image."""

_VOLUMES_PER_BATCH = 512
_MAX_DEPTH_RATIO = 3
"""Slices per row or column beyond which the dimensions of a stack are likely to be in another order."""
ProgressTracker = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Takes items, a description of the work and the number of items; yields the same items and may show a progress bar."""


@dataclass(frozen=True)
class SegmentedStack:
    """All nuclei of a stack with their crops."""

    nuclei: NucleusProperties
    crops: NucleusCrops
    intensity_range: tuple[float, float]
    """Lowest and highest intensity of the stack."""
    at_border: NDArray[np.bool_]
    """(n,): whether the stack's edge touches the nucleus, or its crop extends beyond the stack and is black there."""


@dataclass(frozen=True)
class NucleusImages:
    """The images of the nuclei that were kept."""

    images: NDArray[np.uint8]
    """(n, 28, 28), or volumes (n, 7, 32, 32), memory-mapped from a file in the scratch folder."""
    nuclei: NucleusProperties
    """The n nuclei, in the same order."""
    contrast_limits: ContrastLimits
    segmented: SegmentedStack
    """All nuclei of the mask."""
    is_kept: NDArray[np.bool_]
    """Which of all nuclei were kept."""
    n_small: int = 0
    """Number of nuclei left out because they are too small."""


def extract_nuclei(
    stack: Stack,
    mask: Stack,
    step: VoxelSize,
    scratch_dir: Path,
    progress: ProgressTracker = lambda items, description, total: items,
    *,
    volumes: bool = False,
) -> SegmentedStack:
    """Measure and crop the nuclei of a stack, reading the stack twice and its mask once.

    Args:
        stack: the stack.
        mask: its instance mask.
        step: stack voxels per training voxel, along z, y and x.
        scratch_dir: folder for a file with the crops, 4 KiB per nucleus, and 28 KiB more for its volume.
        progress: shows the progress.
        volumes: whether to keep the volumes of the crops.

    Raises:
        FileError: a file can't be read, or the mask's objects are not nuclei or not one piece each.
        IncompatibleError: stack and mask differ in shape.
    """
    check_mask_matches_stack(stack, mask)
    slice_pairs = zip(stack.slices(), mask.slices(), strict=True)
    pairs_with_progress = progress(slice_pairs, "Measuring nuclei", stack.shape[0])
    nuclei, intensity_range = measure_nuclei(stack, mask, pairs_with_progress, step)
    _check_nucleus_sizes(mask, nuclei, step)
    check_pieces(mask, nuclei.ids, nuclei.voxels, nuclei.far_voxels)
    slices = progress(stack.slices(), "Cropping nuclei", stack.shape[0])
    volumes_path = scratch_dir / "volumes.raw" if volumes else None
    crops = extract_crops(nuclei, stack.shape, step, intensity_range, slices, scratch_dir / "crops.raw", volumes_path)
    clipped = nuclei.touches_edge | crops.padded
    # In a stack with fewer slices than a crop, the z axis tells nothing: every nucleus would be at the border.
    is_deep = stack.shape[0] >= CROP_SHAPE[0] * step[0]
    return SegmentedStack(nuclei, crops, intensity_range, clipped[:, 1] | (clipped[:, 0] & is_deep))


def _check_nucleus_sizes(mask: Stack, nuclei: NucleusProperties, step: VoxelSize) -> None:
    """Refuse a mask whose objects are too large to be nuclei."""
    crop_voxels = float(np.prod(CROP_SHAPE) * np.prod(step))
    if len(nuclei) == 1 and nuclei.voxels[0] > crop_voxels / 2:
        raise FileError(
            mask.path,
            f"{mask.path} has one object only, with the id {nuclei.ids[0]} on {nuclei.voxels[0]:,} voxels; "
            "give each nucleus its own id, for example with skimage.measure.label.",
        )
    median = np.median(nuclei.voxels - nuclei.far_voxels)
    if median > crop_voxels:
        raise FileError(
            mask.path,
            f"{mask.path} has objects of {median:,.0f} voxels (median), more than a whole crop "
            f"({crop_voxels:,.0f}); check the mask and `voxel_size`.",
        )


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
    min_volume: float | None = None,
    volumes: bool = False,
) -> NucleusImages:
    """Extract the nuclei of a stack and turn their projections, or the crops themselves, into 8-bit images.

    Args:
        stack: the stack.
        mask: its instance mask.
        scale: the stack's voxel size relative to the training data's.
        scratch_dir: folder for temporary files.
        progress: shows the progress.
        black_level: see `nephros.prepare`, as for the arguments below.
        white_level: the intensity that becomes 255.
        percentiles: percentiles of the stack's voxels, in place of the two levels.
        drop_border: leave out nuclei at the border.
        min_volume: leave out smaller nuclei; cubic micrometers where the voxel size is known, else voxels.
        volumes: make volumes of 7x32x32 voxels in place of images.

    Raises:
        FileError: a file can't be read, or the mask's objects are not nuclei.
        IncompatibleError: stack and mask differ in shape, or no nucleus is left.
        InvalidArgument: the levels are not in ascending order.
    """
    segmented = extract_nuclei(stack, mask, scale.step, scratch_dir, progress, volumes=volumes)
    is_large = _is_large(segmented.nuclei, scale, min_volume, stack)
    is_kept = is_large & ~segmented.at_border if drop_border else is_large
    if not is_kept.any():
        raise IncompatibleError(
            f"All {is_large.sum():,} nuclei of {stack.path.name} are at the border; leave out `drop_border`."
        )
    is_inside = is_large & ~segmented.at_border
    selected = is_inside if is_inside.any() else is_large
    contrast_limits = IntensityHistogram(segmented.crops, segmented.intensity_range, selected).contrast_limits(
        black_level, white_level, percentiles
    )
    if segmented.crops.volumes is not None:
        images = _map_volumes(segmented.crops.volumes, is_kept, contrast_limits, scratch_dir / "volumes.npy")
    else:
        images = np.concatenate(
            [
                resize_images(contrast_limits.apply(crops), CELL_IMAGE_SIZE)
                for crops in segmented.crops.projections.iter_batches(is_kept)
            ]
        )
    n_small = int((~is_large).sum())
    return NucleusImages(images, segmented.nuclei.select(is_kept), contrast_limits, segmented, is_kept, n_small)


def _map_volumes(
    crops: CropFile, is_kept: NDArray[np.bool_], contrast_limits: ContrastLimits, path: Path
) -> NDArray[np.uint8]:
    """Return the kept volumes in 8 bits, (n, 7, 32, 32), in a file that is memory-mapped."""
    volumes = np.lib.format.open_memmap(path, "w+", np.uint8, (int(is_kept.sum()), *CROP_SHAPE))
    start = 0
    for batch in crops.iter_batches(is_kept, _VOLUMES_PER_BATCH):
        volumes[start : start + len(batch)] = contrast_limits.apply(batch)
        start += len(batch)
    return volumes


def volume_unit(scale: VoxelScaling) -> str:
    """Return the unit of a nucleus's volume: cubic micrometers where the voxel size is known."""
    return "voxels" if scale.stack_voxel_size is None else "cubic micrometers"


def _is_large(
    nuclei: NucleusProperties, scale: VoxelScaling, min_volume: float | None, stack: Stack
) -> NDArray[np.bool_]:
    """Return which nuclei have at least a volume; raise IncompatibleError where none has."""
    volumes = nuclei.voxels * float(np.prod(scale.stack_voxel_size or (1, 1, 1)))
    is_large = volumes >= (0 if min_volume is None else min_volume)
    if not is_large.any():
        unit = volume_unit(scale)
        raise IncompatibleError(
            f"All {len(nuclei):,} nuclei of {stack.path.name} are smaller than {min_volume:g} {unit}, the largest of them "
            f"{volumes.max():.4g}; set a smaller `min_volume`."
        )
    return is_large


def mask_warnings(nuclei: NucleusProperties) -> list[str]:
    """Return a sentence on the ids of a mask that are not one compact piece each, if there are any."""
    text = scattered_text(nuclei.ids, nuclei.voxels, nuclei.far_voxels)
    return [f"In the mask, {text}; each is cropped around its largest piece. Check the mask."] if text else []


def quality_warnings(stack: Stack, scale: VoxelScaling) -> list[str]:
    """Return one sentence for each property of a stack that makes its images differ from the training data."""
    warnings = scale.warnings()
    if stack.shape[0] == 1:
        warnings.append(
            "The stack has one slice only, where the training images are maxima over seven, so nuclei look dimmer and smaller."
        )
    elif stack.shape[0] < CROP_SHAPE[0] * scale.step[0]:
        warnings.append(
            f"The stack's {stack.shape[0]} slices are fewer than a crop has; the rest of each crop is black."
        )
    if stack.shape[0] > _MAX_DEPTH_RATIO * min(stack.shape[1:]):
        warnings.append(
            f"The stack has {stack.shape[0]:,} slices of {stack.shape[2]:,}x{stack.shape[1]:,} pixels; if its dimensions are in "
            "another order, save it with the slices first."
        )
    if scale.stack_voxel_size is None:
        warnings.append(
            "The voxel size is unknown and nothing was resampled; predictions are valid only if it is that of the training data."
        )
    elif min(scale.step) < 0.5:
        warnings.append(
            "The stack's voxels are more than twice as large as the training data's, so its nuclei lack detail."
        )
    return warnings
