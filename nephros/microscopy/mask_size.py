"""What to do about a mask whose size differs from its stack's: it may belong to another level of the stack's pyramid."""

from __future__ import annotations

from nephros.microscopy.pyramid import is_divided
from nephros.microscopy.stack import Stack

_MAX_FACTOR = 64
"""Largest downscaling that is recognized."""
_MAX_PARTS = range(2, 6)
"""Numbers of channels or time points that are recognized in a stack whose dimensions have no names."""


def mask_size_advice(stack: Stack, mask: Stack) -> str:
    """Return what to do about a mask of another shape than its stack's, as the end of a sentence."""
    mask_shapes = (mask.shape, *mask.level_shapes)
    if fitting := [level for level, shape in enumerate(stack.level_shapes) if shape in mask_shapes]:
        return f"it fits level {fitting[0]} of the stack's pyramid, so set `level` to {fitting[0]}"
    if sorted(mask.shape) == sorted(stack.shape):
        return "its axes seem to be in another order; save it as slices, rows, columns"
    levels = _levels_text(stack)
    if factor := _factor(stack.shape, mask.shape):
        return f"it seems to be made at 1/{factor} of the stack's resolution; enlarge it without interpolation{levels}"
    if factor := _factor(mask.shape, stack.shape):
        return f"it seems to be made at {factor} times the stack's resolution; take every pixel number {factor}{levels}"
    n_parts, rest = divmod(stack.shape[0], mask.shape[0])
    if n_parts in _MAX_PARTS and not rest and mask.shape[0] > 1 and mask.shape[1:] == stack.shape[1:]:
        return (
            f"its {stack.shape[0]} slices may be {n_parts} channels or time points of {mask.shape[0]} slices each; save it with "
            "these dimensions, as OME-TIFF or from ImageJ"
        )
    if mask.shape[0] == 1 and mask.shape[1:] == stack.shape[1:]:
        return "a mask of one slice, such as of a projection, goes with that slice; save the ids of all slices"
    return f"they must be the same size, voxel for voxel{levels}"


def _levels_text(stack: Stack) -> str:
    if len(stack.level_shapes) < 2:
        return ""
    shapes = ", ".join(f"{level} {shape}" for level, shape in enumerate(stack.level_shapes))
    return f", or choose a `level` of the stack of the mask's size, of {shapes}"


def _factor(large: tuple[int, int, int], small: tuple[int, int, int]) -> int | None:
    """Return the whole number that rows and columns were divided by, and slices by it or a smaller one, or None for none."""
    factors = range(2, _MAX_FACTOR + 1)
    in_plane = [k for k in factors if all(is_divided(n, m, k) for n, m in zip(large[1:], small[1:], strict=True))]
    return (
        in_plane[0] if in_plane and any(is_divided(large[0], small[0], k) for k in range(1, in_plane[0] + 1)) else None
    )
