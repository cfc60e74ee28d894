"""Outlines of pixels: polygons along the edges of the pixels, whose area is the number of pixels."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Ring = list[tuple[int, int]]
"""Vertices (x, y), the first of them again at the end; pixel (0, 0) reaches from (0, 0) to (1, 1)."""
Polygon = list[Ring]
"""An outer ring and its holes."""

_CORNER_COUNTS = (1, 3)
"""Pixels of the four around a vertex at which an outline turns once."""


def trace_outlines(pixels: NDArray[np.bool_]) -> list[Polygon]:
    """Return the outlines of pixels, a polygon for each set of pixels that are connected by their edges.

    The polygons are valid in the sense of the OGC's Simple Features: rings touch each other in no more than single points, and
    never cross. Outer rings turn counterclockwise in the coordinates of GeoJSON, in which y points up, and holes
    clockwise (RFC 7946, 3.1.6).

    Args:
        pixels: (h, w) bool.
    """
    from scipy import ndimage

    labels, n_pieces = ndimage.label(pixels)  # by edges, not corners
    polygons = []
    for piece, box in enumerate(ndimage.find_objects(labels, n_pieces), start=1):
        rings = _trace_rings(labels[box] == piece, box[1].start, box[0].start)
        polygons.append(sorted(rings, key=_signed_area, reverse=True))  # the one outer ring comes first
    return polygons


def _trace_rings(piece: NDArray[np.bool_], left: int, top: int) -> list[Ring]:
    """Return the rings of one connected piece, whose first pixel is at (left, top).

    An outline alternates between horizontal and vertical segments. In each row of vertices, the first corner is joined with the
    second, the third with the fourth, and so on, and likewise in each column. Where two pixels touch at a corner only, two
    corners of the outline lie on one vertex; each belongs to one of the two pixels outside, so that holes stay apart.
    """
    padded = np.pad(piece, 1).astype(np.int8)
    upper_left, upper_right = padded[:-1, :-1], padded[:-1, 1:]
    lower_left, lower_right = padded[1:, :-1], padded[1:, 1:]
    n_around = upper_left + upper_right + lower_left + lower_right
    is_double = (n_around == 2) & (upper_left == lower_right)
    y, x = np.nonzero(np.isin(n_around, _CORNER_COUNTS))
    double_y, double_x = np.nonzero(is_double)
    # With the pixels outside at the upper right and the lower left, one corner joins up and right, the other down and left.
    is_outside_upper_right = upper_left[double_y, double_x] == 1
    y = np.concatenate([y, double_y, double_y])
    x = np.concatenate([x, double_x, double_x])
    n_single, n_double = len(y) - 2 * len(double_y), len(double_y)
    joins_right = np.concatenate([np.zeros(n_single), np.zeros(n_double), np.ones(n_double)])
    joins_down = np.concatenate([np.zeros(n_single), is_outside_upper_right, ~is_outside_upper_right])
    across = _partners(np.lexsort((joins_right, x, y)))
    down = _partners(np.lexsort((joins_down, y, x)))
    xs, ys = (x + left).tolist(), (y + top).tolist()
    visited = [False] * len(xs)
    rings = []
    for first in range(len(xs)):
        if visited[first]:
            continue
        corners, corner = [], first
        while not visited[corner]:
            partner = across[corner]
            visited[corner] = visited[partner] = True
            corners += [corner, partner]
            corner = down[partner]
        rings.append([(xs[i], ys[i]) for i in (*corners, first)])
    return _turned(rings)


def _partners(order: NDArray[np.intp]) -> list[int]:
    """Return the corner that each is joined with, given their order along the rows or columns."""
    partners = np.empty(len(order), np.intp)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return partners.tolist()


def _turned(rings: list[Ring]) -> list[Ring]:
    """Return the rings of one piece with the outer one, the largest, counterclockwise and the holes clockwise."""
    outer = max(range(len(rings)), key=lambda i: abs(_signed_area(rings[i])))
    return [ring if (_signed_area(ring) > 0) == (i == outer) else ring[::-1] for i, ring in enumerate(rings)]


def _signed_area(ring: Ring) -> float:
    """Return the area, positive where the ring is counterclockwise with y pointing up."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in itertools.pairwise(ring)) / 2
