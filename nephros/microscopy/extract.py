"""Nuclei of a 3-D stack among the inputs of `nephros.predict`: segmented, or by a mask, and cropped as `nephros.prepare` does.

This module writes temporary files and needs scikit-image, so it is imported only where an input is a stack.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.errors import FileError, MissingDependency, NephrosError
from nephros.microscopy.located import LocatedNuclei, MaskFile, find_mask
from nephros.microscopy.location import StackLocation, display_path
from nephros.microscopy.masks import check_stitching_has_mask, labels_in_store, open_mask
from nephros.microscopy.nuclei import (
    NucleusImages,
    ProgressTracker,
    make_nucleus_images,
    mask_warnings,
    quality_warnings,
    volume_unit,
)
from nephros.microscopy.reader import open_stack_with
from nephros.microscopy.segmenters import method_of, segment_with
from nephros.microscopy.stack import Stack, StackOptions
from nephros.microscopy.voxel_size import (
    TRAINING_VOXEL_SIZE,
    TRAINING_VOXEL_SIZE_SOURCE,
    VoxelScaling,
    VoxelSize,
    format_voxel_size,
)

_EXAMPLE_ARGUMENTS = {
    "channel": "channel=0",
    "image": "image=0",
    "mask": "mask=MASK",
    "voxel_size": "voxel_size='Z,Y,X'",
}
"""Parameters of `nephros.prepare` that an error may name, and how to pass them."""

_PREDICT_PARAMETERS = {"channel", "image", "voxel_size"}
"""Those of them that `nephros.predict` takes too."""


@dataclass(frozen=True)
class ExtractedNuclei:
    """Images of a stack's nuclei."""

    ids: NDArray[np.int64]
    """(n,) ids, the same as `nephros.prepare` assigns."""
    images: NDArray[np.uint8]
    """(n, 28, 28), or volumes (n, 7, 32, 32)."""
    located: LocatedNuclei
    """Where the nuclei are."""
    notes: list[str]
    """How the images were made, and warnings about their quality, one sentence each."""
    levels: tuple[float, float] | None = None
    """Intensities that became 0 and 255; None for a stack of 8 bits."""


def extract_nuclei_from_file(
    path: StackLocation,
    levels: tuple[float | None, float | None],
    progress: ProgressTracker,
    options: StackOptions,
    target_voxel_size: VoxelSize = TRAINING_VOXEL_SIZE,
    *,
    uint8_levels: tuple[float, float] | None = None,
    volumes: bool = False,
) -> ExtractedNuclei:
    """Make an image of each nucleus of a stack, by its mask or after an automatic segmentation.

    Args:
        path: the stack; see `nephros.microscopy.reader.open_stack`.
        levels: intensities that become 0 and 255, for stacks of more than 8 bits; None fits them to TissueMNIST.
        progress: shows the progress.
        options: channel, image and voxel size, where the file leaves them open, and the mask.
        target_voxel_size: voxel size of the crops.
        uint8_levels: as `levels`, for stacks of 8 bits.
        volumes: whether to keep the volume of each crop in place of its image.

    Raises:
        FileError: the file can't be used or has no nuclei. Where `nephros.prepare` accepts what is missing, the message
            says so.
        MissingDependency: the extra `stacks` is not installed.
    """
    mask_file: MaskFile | None = None
    # Volumes stay in a file of the folder, whose space is free once they are read; Windows keeps such files.
    with tempfile.TemporaryDirectory(prefix="nephros-", ignore_cleanup_errors=volumes) as temporary_dir:
        try:
            stack = open_stack_with(path, options)
            scale = VoxelScaling.resolve(
                str(path), stack.voxel_size, options.voxel_size, target_voxel_size, resample=True,
                level_step=stack.level_step, implausible_size=stack.implausible_size,
            )  # fmt: skip
            store_labels = None if options.segment else labels_in_store(path, options.mask, options)
            given = find_mask(options.mask, path) if options.mask and store_labels is None else None
            check_stitching_has_mask(options.stitch_threshold, store_labels or given, path)
            mask_file = MaskFile(store_labels or given)
            if isinstance(mask_file.path, Path) and mask_file.is_automatic:
                step = scale.stack_voxel_size or target_voxel_size
                segment_with(options.segment, stack, mask_file.path, step, progress=progress)
            mask = open_mask(mask_file.path, stack.shape, options.stitch_threshold, options.time_point)
            black_level, white_level = (uint8_levels or (None, None)) if stack.dtype == np.uint8 else levels
            result = make_nucleus_images(
                stack,
                mask,
                scale,
                Path(temporary_dir),
                progress,
                black_level=black_level,
                white_level=white_level,
                min_volume=options.min_volume,
                volumes=volumes,
            )
        except MissingDependency as error:
            raise MissingDependency(f"{path} is a 3-D stack: {error}") from error
        except NephrosError as error:
            message = str(error)
            if mask_file is not None and mask_file.is_automatic:
                message = message.replace(str(mask_file.path), "its automatic mask")
            raise FileError(path, _with_next_step(path, message)) from error
        except OSError as error:
            folder = Path(temporary_dir).parent
            raise FileError(
                path,
                f"{path} is a stack, and its nuclei can't be extracted in {folder} ({error.strerror}); free some space.",
            ) from error
    located = LocatedNuclei(
        path,
        display_path(path),
        mask_file,
        options,
        stack.shape,
        scale.stack_voxel_size,
        result.nuclei,
        result.segmented.at_border[result.is_kept],
    )
    notes, limits = _notes(stack, mask, scale, result, located), result.contrast_limits
    used_levels = None if stack.dtype == np.uint8 else (limits.black_level, limits.white_level)
    return ExtractedNuclei(result.nuclei.ids, result.images, located, notes, used_levels)


def _notes(stack: Stack, mask: Stack, scale: VoxelScaling, result: NucleusImages, located: LocatedNuclei) -> list[str]:
    """Return how the images were made, and warnings about their quality, one sentence each."""
    path, n = located.path, len(result.images)
    if located.mask_file.is_automatic:
        mask_notes = [
            f"{path} is a 3-D stack: {n:,} nuclei were segmented automatically ({method_of(located.options.segment)}); for "
            "accurate nuclei, give an instance mask as `mask`"
        ]
    else:
        mask_notes = [f"{path} is a stack of {n:,} nuclei by the mask {mask.path}", *mask.notes]
        mask_notes += [f"{path}: {warning}" for warning in mask_warnings(result.segmented.nuclei)]
    target_voxel_size = scale.target_voxel_size
    is_usual = target_voxel_size == TRAINING_VOXEL_SIZE
    target_source = f"{TRAINING_VOXEL_SIZE_SOURCE} of `nephros.prepare(STACK)`" if is_usual else "as in training"
    resampling_note = (
        f"{path}: voxels of {format_voxel_size(scale.stack_voxel_size)} were resampled to "
        f"{format_voxel_size(target_voxel_size)} ({target_source})"
        if scale.resamples
        else f"{path}: voxels of {format_voxel_size(scale.stack_voxel_size)} are as large as those of the training data "
        f"({target_source}), and nothing was resampled"
    )
    min_volume = located.options.min_volume
    small_note = (
        f"{path}: {result.n_small:,} nuclei smaller than {min_volume or 0:g} {volume_unit(scale)} were left out"
    )
    return [
        *stack.notes,
        *mask_notes,
        resampling_note,
        *([small_note] if result.n_small else []),
        *(f"{path}: {warning}" for warning in quality_warnings(stack, scale)),
    ]


def _with_next_step(path: StackLocation, message: str) -> str:
    """Return a message that names the stack and, where a parameter of `nephros.prepare` helps, the call with it."""
    if path.name not in message:
        message = f"{path} is a 3-D stack: {message}"
    match = re.search(r"`(\w+)`", message)
    if match is None or match[1] not in _EXAMPLE_ARGUMENTS:
        return message
    direct = f"give `{match[1]}`, or " if match[1] in _PREDICT_PARAMETERS else ""
    direct += "`axes` (ZYX) if they are slices, or " if "`axes`" in message else ""
    problem = message.rpartition("; ")[0] or message.rstrip(
        "."
    )  # the advice after it is for callers of `nephros.prepare`
    prepare_call = f"`nephros.prepare({str(path)!r}, {_EXAMPLE_ARGUMENTS[match[1]]}, out='cells.npz')`"
    is_file = isinstance(path, Path) and path.is_file()
    pages = ", or, if its pages are images of single cells, save each to a file of its own" if is_file else ""
    return f"{problem}; {direct}prepare it with {prepare_call} and classify cells.npz{pages}."
