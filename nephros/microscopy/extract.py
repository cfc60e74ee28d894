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

from nephros.errors import UserError
from nephros.microscopy.crops_to_images import doubts, pictures
from nephros.microscopy.nuclei import Progress
from nephros.microscopy.reader import open_stack
from nephros.microscopy.segmentation import HOW, mark
from nephros.microscopy.voxel_size import ASSUMED, TRAINING, Scale, Voxels


@dataclass(frozen=True)
class Nuclei:
    """The nuclei of a stack as pictures."""

    ids: NDArray[np.int64]
    """(n,) the numbers that `nephros data prepare` gives them too."""
    images: NDArray[np.uint8]
    """(n, 28, 28)."""
    notes: list[str]
    """What is to be said of them."""


def nuclei_of(path: Path, white: float | None, progress: Progress) -> Nuclei:
    """Find a stack's nuclei, roughly, and make a picture of each.

    Args:
        path: TIFF with slices of one channel and a voxel size in its metadata.
        white: what becomes 255 of pixels with more than 8 bits; None finds it.

    Raises:
        UserError: the file can't be used or has no nuclei; where `nephros data prepare` can be told more, it says so.
    """
    with tempfile.TemporaryDirectory(prefix="nephros-") as folder:
        room = Path(folder)
        try:
            stack = open_stack(path)
            scale = Scale.of(str(path), stack.voxel_size, None, TRAINING, resample=True)
            mark(stack, room / "mask.tif", scale.own or TRAINING, progress=progress)
            mask = open_stack(room / "mask.tif", mask=True)
            level = None if stack.dtype == np.uint8 else white
            made = pictures(stack, mask, scale, room, progress, white=level)
        except UserError as error:
            raise UserError(
                _with_next_step(path, str(error).replace(str(room / "mask.tif"), "its rough mask"))
            ) from error
        except OSError as error:
            raise UserError(
                f"{path} is a stack, and its nuclei can't be cut out in {room.parent} ({error.strerror}); free some space."
            ) from error
    rough = (
        f"{path} is a 3-D stack: {len(made.images):,} nuclei were marked roughly, by {HOW}; for exact ones give "
        f"`nephros data prepare {quote(str(path))} --labels MASK --out cells.npz` a mask, and `nephros predict` cells.npz"
    )
    sizes = f"{path}: voxels of {_micrometres(scale.own)} were resampled to {_micrometres(TRAINING)} ({ASSUMED})"
    notes = [rough, sizes, *(f"{path}: {words}" for words in doubts(stack, scale))]
    return Nuclei(made.nuclei.ids, made.images, notes)


def _micrometres(size: Voxels | None) -> str:
    return " x ".join(f"{side:.4g}" for side in size or ()) + " micrometres"


def _with_next_step(path: Path, words: str) -> str:
    """Return the sentence with the stack's name, and, where it names a flag, with the command that has it."""
    if path.name not in words:
        words = f"{path} is a 3-D stack: {words}"
    if "--" not in words:
        return words
    return (
        f"{words.removesuffix('.')}, with `nephros data prepare {quote(str(path))} --out cells.npz` (if its pages are single "
        "cells, save each in a file of its own)."
    )
