"""The views of test-time augmentation, as plain numbers: the one list that networks, exported models and predictors follow."""

from __future__ import annotations

N_ORIENTATIONS = 8
"""Flips and quarter-turns of a square, the identity included."""
DEFAULT_TTA_VIEWS = 5
"""Views of a model whose recipe has no number of its own: the image and its four shifts by a pixel."""


def view_parameters(tta_views: int) -> list[tuple[int, int, int]]:
    """Return the views of a recipe's `tta_views`, 1, 5, 8 or 40: orientation, pixels to the right, and pixels down.

    An orientation above 3 is a flip from left to right; after it come (orientation mod 4) quarter-turns. The first view is the
    image itself.
    """
    shifts = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)] if tta_views in (5, 40) else [(0, 0)]
    orientations = range(N_ORIENTATIONS if includes_rotations(tta_views) else 1)
    return [(orientation, *shift) for shift in shifts for orientation in orientations]


def includes_rotations(tta_views: int) -> bool:
    """Return whether `tta_views` views include quarter-turns, for which images must be square."""
    return tta_views in (8, 40)
