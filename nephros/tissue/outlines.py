"""Outlines of pixels: polygons along the edges of the pixels, whose area is the number of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.int64]
"""Vertices, (n, 2): x and y, the first of them again at the end; pixel (0, 0) reaches from (0, 0) to (1, 1)."""
Polygon = list[Ring]
"""An outer ring and its holes."""

_N_CORNERS = np.array([0, 1, 1, 0, 1, 0, 2, 1, 1, 2, 0, 1, 0, 1, 1, 0])
"""Corners of an outline at a vertex, by which of the four pixels around it are inside: 1 upper left, 2 upper right, 4 lower left,
8 lower right."""
_UPPER_LEFT_AND_LOWER_RIGHT = 9


def trace_outlines(pixels: NDArray[np.bool_]) -> list[Polygon]:
    """Return the outlines of pixels, (h, w) bool, as `trace_labels` does."""
    return next((polygons for _, polygons in trace_labels(pixels.astype(np.int32))), [])


def trace_labels(labels: NDArray[Any]) -> Iterator[tuple[int, list[Polygon]]]:
    """Yield each label with its outlines, in ascending order: a polygon for each set of pixels that are connected by their edges.

    The polygons are valid in the sense of the OGC's Simple Features: rings touch each other in no more than single points, and
    never cross. Outer rings turn counterclockwise in the coordinates of GeoJSON, in which y points up, and holes clockwise
    (RFC 7946, 3.1.6).

    Args:
        labels: (h, w) integers, 0 outside.
    """
    from skimage.measure import label as label_pieces

    pieces, n_pieces = label_pieces(labels, connectivity=1, background=0, return_num=True)
    if not n_pieces:
        return
    first_pixels = np.unique(pieces.ravel(), return_index=True)
    label_of_piece = dict(zip(first_pixels[0].tolist(), labels.ravel()[first_pixels[1]].tolist(), strict=True))
    polygons: dict[int, list[Polygon]] = {}
    for piece, rings in _trace_pieces(pieces):
        polygons.setdefault(label_of_piece[piece], []).append(rings)
    yield from sorted(polygons.items())


def smooth_ring(ring: Ring, window: int = 5) -> NDArray[np.float64]:
    """Return a ring without its stairs, for drawing: the mean of `window` neighboring pixel edges each, (vertices, 2), closed."""
    sides = np.diff(ring, axis=0)
    lengths = np.abs(sides).sum(axis=1)
    along = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    middles = np.repeat(ring[:-1], lengths, axis=0) + np.repeat(np.sign(sides), lengths, axis=0) * (
        along[:, None] + 0.5
    )
    half = min(window // 2, len(middles) // 12)
    sums = np.cumsum(
        np.concatenate([np.zeros((1, 2)), middles[len(middles) - half :], middles, middles[:half]]), axis=0
    )
    smooth = (sums[2 * half + 1 :] - sums[: -2 * half - 1]) / (2 * half + 1)
    return np.concatenate([smooth, smooth[:1]])


def _trace_pieces(pieces: NDArray[Any]) -> Iterator[tuple[int, Polygon]]:
    """Yield each connected piece with its rings, the outer one first.

    An outline alternates between horizontal and vertical segments. In each row of vertices, the first corner of a piece is joined
    with its second, the third with the fourth, and so on, and likewise in each column. Where two pixels of one piece touch at a
    corner only, two corners of the outline lie on one vertex; each belongs to one of the two pixels outside, so that holes stay
    apart.
    """
    piece, y, x, joins_right, joins_down = _find_corners(pieces)
    across = _partners(np.lexsort((joins_right, x, y, piece)))
    down = _partners(np.lexsort((joins_down, y, x, piece)))
    piece_of_corner, visited = piece.tolist(), [False] * len(piece)
    points = np.stack([x, y], axis=1)
    rings: dict[int, list[Ring]] = {}
    for first in np.argsort(piece, kind="stable").tolist():
        if visited[first]:
            continue
        corners, corner = [], first
        while not visited[corner]:
            partner = across[corner]
            visited[corner] = visited[partner] = True
            corners += [corner, partner]
            corner = down[partner]
        rings.setdefault(piece_of_corner[first], []).append(points[[*corners, first]])
    for number, ring_list in rings.items():
        areas = [_signed_area(ring) for ring in ring_list]
        outer = max(range(len(areas)), key=lambda i: abs(areas[i]))
        oriented = [ring if (areas[i] > 0) == (i == outer) else ring[::-1] for i, ring in enumerate(ring_list)]
        yield number, [oriented.pop(outer), *oriented]


def _find_corners(
    pieces: NDArray[Any],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the corners of all outlines: piece, y, x, and of two at one vertex which joins right, and which down; (n,) each."""
    padded = np.pad(pieces, 1)
    quads = np.stack([padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]])
    y, x = np.nonzero((quads[0] != quads[1]) | (quads[0] != quads[2]) | (quads[0] != quads[3]))
    quads = quads[:, y, x]
    corners = []
    for k in range(4):
        is_first = (quads[k] > 0) & (quads[:k] != quads[k]).all(axis=0)
        vertices = np.flatnonzero(is_first)
        pattern = ((quads[:, vertices] == quads[k, vertices]) * np.array([[1], [2], [4], [8]])).sum(axis=0)
        n_corners = _N_CORNERS[pattern]
        for copy in (0, 1):
            chosen = n_corners > copy
            # With the pixels outside at the upper right and lower left, one corner joins up and right, the other down and left.
            is_double = n_corners[chosen] == 2
            is_descending = pattern[chosen] == _UPPER_LEFT_AND_LOWER_RIGHT
            rows = vertices[chosen]
            joins_right = np.full(len(rows), copy)
            joins_down = np.where(is_double & is_descending, 1 - copy, copy)
            corners.append(np.stack([quads[k, rows].astype(np.int64), y[rows], x[rows], joins_right, joins_down]))
    piece, rows, columns, joins_right, joins_down = np.concatenate(corners, axis=1)
    return piece, rows, columns, joins_right, joins_down


def _partners(order: NDArray[np.intp]) -> list[int]:
    """Return the corner that each is joined with, given their order along the rows or columns."""
    partners = np.empty(len(order), np.intp)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return list(partners.tolist())


def _signed_area(ring: Ring) -> float:
    """Return the area, positive where the ring is counterclockwise with y pointing up."""
    x, y = ring[:, 0], ring[:, 1]
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2
