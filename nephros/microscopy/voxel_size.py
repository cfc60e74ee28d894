"""Voxel sizes: of a stack, from its file or its user, and of the stacks that TissueMNIST was cropped from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nephros.errors import FileError, InvalidArgument

VoxelSize = tuple[float, float, float]
"""Micrometers along z, y and x."""

TRAINING_VOXEL_SIZE: VoxelSize = (1.0, 0.5, 0.5)
"""Assumed for BBBC051, the source of TissueMNIST: its page and its paper (Woloshuk et al. 2021, doi 10.1002/cyto.a.24274)
were not accessible.

In the plane, a third party gives about 0.5, without a source (the table of data sets in github.com/Arthur-Chiron/VoCell).
TissueMNIST's own images agree: the median area of their nuclei is that of a disc 14.4 pixels of 32 across, which is 7.2
micrometers at 0.5 per pixel. The 1 along z is a guess from the shape of the crops: their 7 slices then contain such a nucleus.
"""
TRAINING_VOXEL_SIZE_SOURCE = (
    "assumed for the training data: in the plane from VoCell's table of data sets, which the size of the nuclei supports; along "
    "z a guess, which can be changed by `target_voxel_size`"
)

_TARGET_SIZE_SOURCES: dict[VoxelSize | None, str | None] = {None: None, TRAINING_VOXEL_SIZE: TRAINING_VOXEL_SIZE_SOURCE}

RELATIVE_TOLERANCE = 0.02
"""Sizes with a smaller relative difference count as equal, and nothing is resampled along that axis."""

MIN_SIDE_UM, MAX_SIDE_UM = 0.005, 100.0
"""Plausible range of a voxel's side, in micrometers."""
NOT_PLAUSIBLE = "which is not a plausible size in a unit of length"
"""Why a voxel size in a file's metadata can't be used."""


def check_voxel_size(parameter: str, voxel_size: Sequence[float]) -> VoxelSize:
    """Return a voxel size that a user passes as `parameter`.

    Raises:
        InvalidArgument: it is not three numbers, or a side is not between 0.005 and 100 micrometers.
    """
    if len(voxel_size) != 3 or not all(is_plausible_side(side) for side in voxel_size):
        text = ",".join(f"{side:g}" for side in voxel_size)
        raise InvalidArgument(
            parameter,
            text,
            f"z, y and x in micrometers, each from {MIN_SIDE_UM:g} to {MAX_SIDE_UM:g}, such as 1,0.5,0.5",
        )
    z, y, x = voxel_size
    return z, y, x


def format_voxel_size(voxel_size: VoxelSize | None) -> str:
    """Return a voxel size as text, such as ``1 x 0.5 x 0.5 micrometers``, or ``unknown``."""
    return "unknown" if voxel_size is None else " x ".join(f"{side:.4g}" for side in voxel_size) + " micrometers"


@dataclass(frozen=True)
class VoxelScaling:
    """A stack's voxel size relative to that of the training data."""

    stack_voxel_size: VoxelSize | None
    """None where it is unknown and nothing is resampled."""
    source: str
    """Where the stack's voxel size comes from."""
    target_voxel_size: VoxelSize | None
    """None where nothing is resampled."""
    step: VoxelSize
    """Stack voxels per training voxel along each axis; exactly 1 where the two differ by less than RELATIVE_TOLERANCE."""
    contradiction: str = ""
    """A sentence where the user's voxel size differs from that in the file's metadata."""

    @classmethod
    def resolve(
        cls,
        name: str,
        file_voxel_size: VoxelSize | None,
        user_voxel_size: VoxelSize | None,
        target_voxel_size: VoxelSize,
        *,
        resample: bool,
        level_step: tuple[float, float, float] = (1.0, 1.0, 1.0),
        implausible_size: str = "",
    ) -> VoxelScaling:
        """Take the user's voxel size, else the one in the metadata of the file called `name`.

        The user's is that of the finest pyramid level, the file's that of the level that is read. `level_step` and
        `implausible_size`, what the metadata state that can't be used, and why, are those of `nephros.microscopy.stack.Stack`.

        Raises:
            FileError: the voxel size is unknown, and resampling needs it.
        """
        stack_voxel_size, source, contradiction = file_voxel_size, "file metadata", ""
        if user_voxel_size is not None:
            stack_voxel_size, source = coarsen(user_voxel_size, level_step), "voxel_size parameter"
            contradiction = _contradiction(file_voxel_size and refine(file_voxel_size, level_step), user_voxel_size)
        if not resample:
            source = source if stack_voxel_size else "unknown"
            return cls(stack_voxel_size, source, None, (1.0, 1.0, 1.0), contradiction)
        if stack_voxel_size is None:
            statement = f"{name} doesn't say how large its voxels are"
            if implausible_size:
                statement = f"{name} states {implausible_size}"
            raise FileError(
                name,
                f"{statement}; give `voxel_size` (z, y, x in micrometers), "
                "or `resample=False` to use its voxels as they are.",
            )
        z, y, x = (target / stack_side for stack_side, target in zip(stack_voxel_size, target_voxel_size, strict=True))
        step = (_snap_to_one(z), _snap_to_one(y), _snap_to_one(x))
        return cls(stack_voxel_size, source, target_voxel_size, step, contradiction)

    @property
    def resamples(self) -> bool:
        """Whether crops are resampled along any axis."""
        return self.step != (1.0, 1.0, 1.0)

    def warnings(self) -> list[str]:
        """Return a sentence where the user's voxel size contradicts the file's."""
        return [self.contradiction] if self.contradiction else []

    @property
    def target_source(self) -> str | None:
        """Where the target voxel size comes from; None where nothing is resampled."""
        return _TARGET_SIZE_SOURCES.get(self.target_voxel_size, "target_voxel_size parameter")


def coarsen(voxel_size: VoxelSize, step: tuple[float, float, float]) -> VoxelSize:
    """Return the voxel size of a pyramid level with so many voxels of the finest level per voxel, given that of the finest."""
    z, y, x = (side * n for side, n in zip(voxel_size, step, strict=True))
    return z, y, x


def refine(voxel_size: VoxelSize, step: tuple[float, float, float]) -> VoxelSize:
    """Return the voxel size of the finest pyramid level, the inverse of `coarsen`."""
    z, y, x = (side / n for side, n in zip(voxel_size, step, strict=True))
    return z, y, x


def _contradiction(file_size: VoxelSize | None, user_size: VoxelSize) -> str:
    """Return a sentence where two sizes of the finest level differ by more than the tolerance."""
    if file_size is None or _agree(file_size, user_size):
        return ""
    in_other_order = _agree(_ascending(file_size), _ascending(user_size))
    order = ", the same numbers in another order (it takes z, y, x)" if in_other_order else ""
    return (
        f"The voxel size in the file's metadata is {format_voxel_size(file_size)} (z, y, x), and `voxel_size` is "
        f"{format_voxel_size(user_size)}{order}; `voxel_size` is used."
    )


def _agree(first: VoxelSize, second: VoxelSize) -> bool:
    """Return whether two sizes are equal within the tolerance."""
    return all(abs(a / b - 1) <= RELATIVE_TOLERANCE for a, b in zip(first, second, strict=True))


def _ascending(voxel_size: VoxelSize) -> VoxelSize:
    first, second, third = sorted(voxel_size)
    return first, second, third


def _snap_to_one(ratio: float) -> float:
    return 1.0 if abs(ratio - 1) <= RELATIVE_TOLERANCE else ratio


def is_plausible_side(side: float) -> bool:
    """Return whether a voxel can have a side of so many micrometers."""
    return math.isfinite(side) and MIN_SIDE_UM <= side <= MAX_SIDE_UM
