"""Outlines along pixel edges: valid polygons that cover the pixels exactly."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon, box

from nephros.tissue.outlines import smooth_ring, trace_labels, trace_outlines


def _geometry(pixels: NDArray[np.bool_]) -> MultiPolygon:
    return MultiPolygon([(rings[0], rings[1:]) for rings in trace_outlines(pixels)])


def _check(pixels: NDArray[np.bool_]) -> None:
    geometry = _geometry(pixels)
    assert shapely.is_valid(geometry), shapely.is_valid_reason(geometry)
    assert geometry.area == pixels.sum()
    y, x = np.indices(pixels.shape)
    assert np.array_equal(shapely.contains_xy(geometry, x + 0.5, y + 0.5), pixels)
    for polygon in geometry.geoms:
        assert polygon.exterior.is_ccw
        assert not any(hole.is_ccw for hole in polygon.interiors)


@pytest.mark.parametrize("rows", [
    ["#"],
    ["##", "##"],
    ["#.", ".#"],
    [".#", "#."],
    ["###", "#.#", "###"],
    ["####", "#..#", "####"],
    ["####", "#.##", "##.#", "####"],  # two holes that touch at a corner
    ["####", "##.#", "#.##", "####"],
    ["###.", "#.##", "####"],
    ["##.", "#.#", "###"],  # a hole that touches the outside at a corner
    [".##", "#.#", "###"],
    ["#####", "#...#", "#.#.#", "#...#", "#####"],  # an island in a hole
    ["#####", "##.##", "#.#.#", "##.##", "#####"],
    ["#.#", ".#.", "#.#"],
])  # fmt: skip
def test_shapes_drawn_by_hand(rows: list[str]) -> None:
    _check(np.array([[char == "#" for char in row] for row in rows]))


@pytest.mark.parametrize("density", [0.05, 0.3, 0.5, 0.6, 0.75, 0.95])
def test_random_pixels(density: float) -> None:
    rng = np.random.default_rng(int(100 * density))
    for _ in range(12):
        _check(rng.random(rng.integers(1, 17, 2)) < density)


@pytest.mark.slow
def test_every_pattern_of_three_by_four_pixels() -> None:
    for number in range(1 << 12):
        pixels = np.array([number >> bit & 1 for bit in range(12)], np.bool_).reshape(3, 4)
        geometry = _geometry(pixels)
        assert geometry.is_valid, number
        assert geometry.area == pixels.sum(), number


def test_labels_that_touch_have_outlines_of_their_own() -> None:
    labels = np.random.default_rng(3).integers(0, 4, (24, 31)) * 7
    outlines = dict(trace_labels(labels))
    assert list(outlines) == [7, 14, 21]
    for label, polygons in outlines.items():
        geometry = MultiPolygon([(rings[0], rings[1:]) for rings in polygons])
        assert geometry.is_valid
        assert geometry.area == (labels == label).sum()


@pytest.mark.parametrize("size", [1, 2, 3, 40])
def test_smooth_rings_stay_near_the_pixels(size: int) -> None:
    (polygon,) = trace_outlines(np.ones((size, size), np.bool_))
    smooth = smooth_ring(polygon[0])
    assert np.array_equal(smooth[0], smooth[-1])
    assert np.isfinite(smooth).all()
    assert smooth.min() >= 0
    assert smooth.max() <= size
    assert Polygon(smooth).area > 0.4 * size**2


def test_vertices_lie_on_pixel_edges() -> None:
    pixels = np.zeros((5, 9), np.bool_)
    pixels[2:4, 3:8] = True
    (polygon,) = trace_outlines(pixels)
    assert Polygon(polygon[0]).equals(box(3, 2, 8, 4))
    assert len(polygon[0]) == 5
    assert smooth_ring(polygon[0]).shape == (15, 2)
    assert trace_outlines(np.zeros((3, 3), np.bool_)) == []
