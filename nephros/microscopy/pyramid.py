"""Image pyramids: which level is read, and how much coarser it is than the finest."""

from __future__ import annotations

from collections.abc import Sequence

from nephros.errors import InvalidArgument
from nephros.microscopy.choices import choose_index, listing
from nephros.microscopy.location import StackLocation
from nephros.microscopy.voxel_size import RELATIVE_TOLERANCE, TRAINING_VOXEL_SIZE, VoxelSize, coarsen, format_voxel_size

Shape = tuple[int, int, int]
"""Slices, rows and columns."""


def choose_level(
    choice: int | str | None,
    shapes: Sequence[Shape],
    voxel_sizes: Sequence[VoxelSize | None],
    location: StackLocation,
    stack_shape: Shape | None,
    notes: list[str],
    user_voxel_size: VoxelSize | None,
) -> int:
    """Return the level of an image pyramid that a user chooses.

    Args:
        choice: a number from 0, the finest; ``auto`` for the coarsest that is as fine as the training data; None for the one of
            `stack_shape`, else the finest.
        shapes: slices, rows and columns of each level.
        voxel_sizes: micrometers along z, y and x of each level; None where they are unknown.
        location: names the file in an error.
        stack_shape: of the stack that the pyramid is the mask of; None where it is not a mask.
        notes: a note is added where ``auto`` has no voxel size to go by.
        user_voxel_size: of the finest level, in place of those in the file.

    Raises:
        InvalidArgument: there is no such level.
    """
    if choice is None:
        return next((level for level, shape in enumerate(shapes) if shape == stack_shape), 0)
    if user_voxel_size is not None:
        voxel_sizes = [level_voxel_size(user_voxel_size, shapes[0], shape) for shape in shapes]
    if choice == "auto":
        if len(shapes) > 1 and voxel_sizes[0] is None:
            notes.append(
                f"{location.name} doesn't say how large its voxels are, so the finest of its {len(shapes)} pyramid levels is "
                "read; give `voxel_size`, or set `level` to a number, to read another."
            )
        limit = [side * (1 + RELATIVE_TOLERANCE) for side in TRAINING_VOXEL_SIZE]
        fine = [
            level
            for level, size in enumerate(voxel_sizes)
            if size is not None and all(side <= most for side, most in zip(size, limit, strict=True))
        ]
        return max(fine, default=0)
    names = [
        f"({' x '.join(map(str, shape))}, {format_voxel_size(size)})"
        for shape, size in zip(shapes, voxel_sizes, strict=True)
    ]
    if not str(choice).isdecimal():
        hint = f"{location.name} has {listing(names, len(names))}."
        raise InvalidArgument("level", choice, "auto or a number from 0", hint=hint)
    return choose_index("level", int(choice), names, len(names), location.name)


def downscaling(finest: Shape, shape: Shape) -> tuple[float, float, float]:
    """Return how many voxels of the finest level are one of a level of this shape, along z, y and x.

    They are whole numbers where the sizes allow that: 33 pixels of a level of 16 are halves.
    """
    z, y, x = (_factor(n_finest, n) for n_finest, n in zip(finest, shape, strict=True))
    return z, y, x


def _factor(n_finest: int, n: int) -> float:
    ratio = n_finest / n
    return float(round(ratio)) if is_divided(n_finest, n, round(ratio)) else ratio


def is_divided(large: int, small: int, factor: int) -> bool:
    """Return whether a side is another, divided and rounded up or down."""
    return large // factor <= small <= -(-large // factor)


def level_voxel_size(voxel_size: VoxelSize | None, finest: Shape, shape: Shape) -> VoxelSize | None:
    """Return the voxel size of a level, given that of the finest."""
    if voxel_size is None:
        return None
    return coarsen(voxel_size, downscaling(finest, shape))
