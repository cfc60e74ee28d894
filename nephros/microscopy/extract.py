"""A 3-D stack among the inputs: its nuclei are cut out as `nephros data prepare` does, by a mask that is made here.

It writes temporary files and takes scikit-image, so that it is imported where a stack is met and nowhere else.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np
from numpy.typing import NDArray

from nephros.errors import NephrosError
from nephros.microscopy.crops_to_images import make_nucleus_images, quality_warnings
from nephros.microscopy.nuclei import ProgressTracker
from nephros.microscopy.reader import open_stack
from nephros.microscopy.segmentation import METHOD, segment_nuclei
from nephros.microscopy.voxel_size import TRAINING_VOXEL_SIZE, TRAINING_VOXEL_SIZE_SOURCE, VoxelScaling, VoxelSize


@dataclass(frozen=True)
class ExtractedNuclei:
    """The nuclei of a stack as pictures."""

    ids: NDArray[np.int64]
    """(n,) the numbers that `nephros data prepare` gives them too."""
    images: NDArray[np.uint8]
    """(n, 28, 28)."""
    notes: list[str]
    """What is to be said of them."""


def extract_nuclei_from_file(path: Path, white_level: float | None, progress: ProgressTracker) -> ExtractedNuclei:
    """Find a stack's nuclei, roughly, and make a picture of each.

    Args:
        path: TIFF with slices of one channel and a voxel size in its metadata.
        white: what becomes 255 of pixels with more than 8 bits; None finds it.

    Raises:
        UserError: the file can't be used or has no nuclei; where `nephros data prepare` can be told more, it says so.
    """
    with tempfile.TemporaryDirectory(prefix="nephros-") as temporary_dir:
        scratch_dir = Path(temporary_dir)
        try:
            stack = open_stack(path)
            scale = VoxelScaling.resolve(str(path), stack.voxel_size, None, TRAINING_VOXEL_SIZE, resample=True)
            segment_nuclei(
                stack, scratch_dir / "mask.tif", scale.stack_voxel_size or TRAINING_VOXEL_SIZE, progress=progress
            )
            mask = open_stack(scratch_dir / "mask.tif", is_mask=True)
            scaled_white_level = None if stack.dtype == np.uint8 else white_level
            result = make_nucleus_images(stack, mask, scale, scratch_dir, progress, white_level=scaled_white_level)
        except NephrosError as error:
            raise NephrosError(
                _with_next_step(path, str(error).replace(str(scratch_dir / "mask.tif"), "its rough mask"))
            ) from error
        except OSError as error:
            raise NephrosError(
                f"{path} is a stack, and its nuclei can't be cut out in {scratch_dir.parent} ({error.strerror}); free some space."
            ) from error
    segmentation_note = (
        f"{path} is a 3-D stack: {len(result.images):,} nuclei were marked roughly, by {METHOD}; for exact ones give "
        f"`nephros data prepare {quote(str(path))} --mask MASK --out cells.npz` a mask, and `nephros predict` cells.npz"
    )
    resampling_note = (
        f"{path}: voxels of {_micrometers_text(scale.stack_voxel_size)} were resampled to "
        f"{_micrometers_text(TRAINING_VOXEL_SIZE)} ({TRAINING_VOXEL_SIZE_SOURCE})"
    )
    notes = [segmentation_note, resampling_note, *(f"{path}: {warning}" for warning in quality_warnings(stack, scale))]
    return ExtractedNuclei(result.nuclei.ids, result.images, notes)


def _micrometers_text(size: VoxelSize | None) -> str:
    return " x ".join(f"{side:.4g}" for side in size or ()) + " micrometres"


def _with_next_step(path: Path, message: str) -> str:
    """Return the sentence with the stack's name, and, where it names a flag, with the command that has it."""
    if path.name not in message:
        message = f"{path} is a 3-D stack: {message}"
    if "--" not in message:
        return message
    return (
        f"{message.removesuffix('.')}, with `nephros data prepare {quote(str(path))} --out cells.npz` (if its pages are single "
        "cells, save each in a file of its own)."
    )
