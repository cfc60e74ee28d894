"""Where the nuclei of a stack are: their measurements, and the mask that shows them, for as long as somebody needs it."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.data.input_files import sibling_names
from nephros.errors import FileError, InvalidArgument, did_you_mean
from nephros.microscopy.class_labels import STEM, fill_stem
from nephros.microscopy.location import StackLocation, StackUrl
from nephros.microscopy.masks import mask_exists, open_mask
from nephros.microscopy.measurements import NucleusProperties
from nephros.microscopy.reader import open_stack_with
from nephros.microscopy.stack import Stack, StackOptions
from nephros.microscopy.voxel_size import VoxelSize


class MaskFile:
    """An instance mask on disk: a user's, or one that was made here and is removed together with this object."""

    def __init__(self, path: StackLocation | None = None) -> None:
        """Take the place of a user's mask; None makes a temporary folder for a new one."""
        self.is_automatic = path is None
        if path is None:
            folder = tempfile.mkdtemp(prefix="nephros-mask-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            path = Path(folder, "mask.tif")
        self.path: StackLocation = path


@dataclass(frozen=True)
class LocatedNuclei:
    """The classified nuclei of a stack, and the files that show them."""

    path: StackLocation
    """The stack."""
    display_path: str
    """The same as text that can be written anywhere."""
    mask_file: MaskFile
    options: StackOptions
    """With which the stack was opened."""
    shape: tuple[int, int, int]
    """Slices, rows and columns."""
    voxel_size: VoxelSize | None
    """Micrometers along z, y and x; None where it is unknown."""
    nuclei: NucleusProperties
    at_border: NDArray[np.bool_]
    """(n,): whether the stack's edge cuts the nucleus, or its crop extends beyond the stack."""

    def open(self) -> tuple[Stack, Stack]:
        """Open the stack and its mask again.

        Raises:
            FileError: one of them can't be read any more, or the two have changed in shape.
        """
        options = self.options
        stack = open_stack_with(self.path, options)
        mask = open_mask(self.mask_file.path, stack.shape, options.stitch_threshold, options.time_point)
        for opened in (stack, mask):
            if opened.shape != self.shape:
                raise FileError(
                    opened.path, f"{opened.path} has changed since its nuclei were classified; predict again."
                )
        return stack, mask


def find_mask(mask: str, stack: StackLocation) -> StackLocation:
    """Return the path or URL of a stack's mask.

    Args:
        mask: a path, or a pattern as `nephros.microscopy.class_labels.fill_stem` takes it, for which a relative path is looked
            for in the folder of the stack first, then in the current folder.
        stack: the stack.

    Raises:
        FileError: there is no such file.
        InvalidArgument: the mask is the stack itself.
    """
    path = fill_stem(mask, stack)
    if isinstance(path, StackUrl):
        if path == stack:
            raise InvalidArgument("mask", mask, "the label image of the stack, not the stack itself")
        return path
    candidates = [stack.parent / path, path] if STEM in mask and isinstance(stack, Path) else [path]
    for candidate in candidates:
        if mask_exists(candidate):
            if isinstance(stack, Path) and candidate.absolute() == stack.absolute():
                raise InvalidArgument("mask", mask, "the label image of the stack, not the stack itself")
            return candidate
    paths = list(dict.fromkeys(candidate.absolute() for candidate in candidates)) if len(candidates) > 1 else candidates
    names = [name for candidate in candidates for name in sibling_names(candidate)]
    raise FileError(
        path,
        f"{stack.name} has no mask: there is no {' and no '.join(map(str, paths))}; check the name."
        f"{did_you_mean(path.name, names)}",
    )
