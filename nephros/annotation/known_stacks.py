"""Whether a stack that is to be added is one that the project has, and whether its nuclei would be the same ones again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nephros.annotation.cell_reading import file_state
from nephros.annotation.project_file import UNKNOWN_STATE, StackSource
from nephros.annotation.stack_copies import open_mask
from nephros.errors import FileError, InvalidArgument
from nephros.microscopy import masks
from nephros.microscopy.located import find_mask
from nephros.microscopy.location import StackLocation, locate
from nephros.microscopy.reader import open_stack_with
from nephros.microscopy.segmenters import method_of
from nephros.microscopy.sequence_stack import stack_digest
from nephros.microscopy.stack import Stack, StackOptions
from nephros.microscopy.voxel_size import format_voxel_size, refine

_ADVICE = "make another project for its new nuclei, since the labels of this one belong to the former ones"
_READING_OPTIONS = ("channel", "image", "axes", "level", "time_point")
"""What says which voxels of a file are the stack."""


def check_same_stack(
    root: Path, path: StackLocation, stack: StackSource, options: StackOptions, white_level: float | None
) -> None:
    """Raise where the nuclei of a stack, or their cells, would be others than those in the project.

    What a user leaves out is as it was when the stack was added.

    Args:
        root: of the project.
        path: of the stack now.
        stack: what the project has.
        options: what the user says of it now.
        white_level: likewise.

    Raises:
        FileError: the stack has changed.
        InvalidArgument: an option has another value than when the stack was added.
        NephrosError: the stack or its mask can't be opened with these options.
    """
    if str(path) == stack.path and stack.state not in (UNKNOWN_STATE, file_state(path)):
        raise FileError(path, f"{path} has changed since its nuclei were added to the project; {_ADVICE}.")
    _check_reading_options(path, stack, options)
    former_size = stack.voxel_size and refine(stack.voxel_size, stack.level_step)
    if options.voxel_size is not None and not _are_close(options.voxel_size, former_size):
        raise _refusal("voxel_size", format_voxel_size(options.voxel_size), path, format_voxel_size(former_size))
    if options.segment is not None and method_of(options.segment) != stack.mask:
        raise _refusal("segment", options.segment, path, f"the mask {stack.mask}")
    if (known := stack.options) is not None:
        for parameter, value, former in (
            ("min_volume", options.min_volume, known.min_volume),
            ("stitch_threshold", options.stitch_threshold, known.stitch_threshold),
            ("white_level", white_level, stack.white_level),
        ):
            if value is not None and value != former:
                raise _refusal(parameter, value, path, former)
    if options.mask is not None and not _is_same_mask(root, path, stack, options):
        raise _refusal("mask", options.mask, path, f"{stack.mask}, as it was then")


def find_upload(
    root: Path, path: Path, stacks: Iterable[StackSource], options: StackOptions, white_level: float | None
) -> StackSource | None:
    """Return the stack of a project that an uploaded file is; None where no stack has the name of the file.

    Raises:
        FileError: the stacks of this name have another content.
        NephrosError: as `check_same_stack`.
    """
    same_name = [stack for stack in stacks if Path(stack.path).name == path.name]
    for stack in same_name:
        original = root / stack.path  # which is absolute for stacks that were not uploaded
        if original.exists() and stack_digest(original) == stack_digest(path):
            check_same_stack(root, path, stack, options, white_level)
            return stack
    if same_name:
        raise FileError(
            path.name,
            f"{path.name} differs from the stack of this name in the project: rename it if it is another one; if it has changed, "
            f"{_ADVICE}.",
        )
    return None


def _refusal(parameter: str, value: object, path: StackLocation, former: object) -> InvalidArgument:
    was_added = "without it" if former is None else f"with {former}"
    return InvalidArgument(
        parameter, value, f"left out for {path.name}, which was added {was_added}", hint=f"To use it, {_ADVICE}."
    )


def _are_close(sides: tuple[float, float, float], former: tuple[float, float, float] | None) -> bool:
    return former is not None and np.allclose(sides, former, rtol=1e-6)


def _check_reading_options(path: StackLocation, stack: StackSource, options: StackOptions) -> None:
    """Raise InvalidArgument where the user chooses other voxels of the file: names of channels and the like are looked up."""
    known = _known_options(stack)
    given = {name: value for name in _READING_OPTIONS if (value := getattr(options, name)) is not None}
    changed = {name: value for name, value in given.items() if value != getattr(known, name)}
    if not changed:
        return
    if "axes" in changed and known.axes is not None and known.axes.casefold() != changed["axes"].casefold():
        raise _refusal("axes", changed["axes"], path, known.axes)
    before, now = (open_stack_with(path, dataclasses.replace(known, **values)) for values in ({}, changed))
    for name, value in changed.items():
        former, current = _chosen(before, name), _chosen(now, name)
        if former != current:
            raise _refusal(name, value, path, former)


def _known_options(stack: StackSource) -> StackOptions:
    """Return how a stack was opened when it was added, as far as that is known."""
    return dataclasses.replace(stack.options or StackOptions(), segment=None, channel=stack.channel)


def _chosen(stack: Stack, option: str) -> Any:
    """Return what an option chose in a file."""
    return stack.shape if option == "axes" else getattr(stack, option)


def _is_same_mask(root: Path, path: StackLocation, stack: StackSource, options: StackOptions) -> bool:
    """Return whether a user's mask holds the nuclei that the project has: by its file, if that is unchanged, or by its voxels."""
    assert options.mask is not None
    known = _known_options(stack)
    mask = masks.labels_in_store(path, options.mask, known) or find_mask(options.mask, path)
    if str(locate(mask)) == stack.mask and UNKNOWN_STATE != file_state(mask) == stack.mask_state:
        return True
    threshold = options.stitch_threshold if options.stitch_threshold is not None else known.stitch_threshold
    copy, opened = open_mask(root, stack), masks.open_mask(mask, stack.shape, threshold, known.time_point)
    return opened.shape == copy.shape and all(map(np.array_equal, opened.slices(), copy.slices()))
