"""From a stack and its mask to a picture a nucleus, as TissueMNIST's were made: 32x32x7, maximum, 28x28, 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.data.cell_image import resize
from nephros.errors import UserError
from nephros.microscopy.crops import WINDOW
from nephros.microscopy.intensity import Levels, Pixels
from nephros.microscopy.measurements import Nuclei
from nephros.microscopy.nuclei import Cells, Progress, find
from nephros.microscopy.reader import Stack
from nephros.microscopy.voxel_size import Scale

SIZE = 28


@dataclass(frozen=True)
class Pictures:
    """The nuclei that were kept, and of what they are a part."""

    images: NDArray[np.uint8]
    """(n, 28, 28)."""
    nuclei: Nuclei
    """n of them, in the same order."""
    levels: Levels
    cells: Cells
    """All nuclei of the mask."""
    kept: NDArray[np.bool_]
    """Which of all they are."""


def pictures(
    stack: Stack,
    mask: Stack,
    scale: Scale,
    room: Path,
    progress: Progress,
    *,
    black: float | None = None,
    white: float | None = None,
    percentiles: tuple[float, float] | None = None,
    drop_border: bool = False,
) -> Pictures:
    """Cut the nuclei out; the arguments that can be left out are those of `nephros.prepare`.

    Args:
        room: a folder, which gets a file with the crops.

    Raises:
        UserError: the two files don't belong together or can't be read, or no nucleus is left.
    """
    cells = find(stack, mask, scale.step, room, progress)
    kept = ~cells.border if drop_border else np.ones(len(cells.nuclei), dtype=np.bool_)
    if not kept.any():
        raise UserError(f"All {len(kept):,} nuclei of {stack.path.name} lie at the border; leave --drop-border out.")
    whole = cells.border if cells.border.all() else ~cells.border
    levels = Pixels(cells.crops, cells.bounds, whole).levels(black, white, percentiles)
    images = np.concatenate([resize(levels.apply(part), SIZE) for part in cells.crops.projections.batches(kept)])
    return Pictures(images, cells.nuclei.keep(kept), levels, cells, kept)


def doubts(stack: Stack, scale: Scale) -> list[str]:
    """Return a sentence for each thing about a stack that makes its pictures unlike the training data's."""
    found: list[str] = []
    if stack.shape[0] == 1:
        found.append("One slice only: it stands for the maximum over seven, so nuclei look dimmer and smaller.")
    elif stack.shape[0] < WINDOW[0] * scale.step[0]:
        found.append(f"The stack's {stack.shape[0]} slices are fewer than a crop's; the rest of it is black.")
    if scale.own is None:
        found.append(
            "The voxel size is unknown and nothing was resampled: answers hold only if it is the training data's."
        )
    elif min(scale.step) < 0.5:
        found.append("The stack is over twice as coarse as the training data: its nuclei lack detail.")
    return found
