"""The overlay: which pixels get which colour, and that it stays quick on a large picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from nephros.errors import NephrosError
from nephros.microscopy.projection import project_stack
from nephros.microscopy.synthetic import SyntheticStack
from nephros.reporting.plots.style import CLASS_COLORS
from nephros.reporting.stack_overlay import ClassOverlay, render_legend, render_overlay, save_overlay, scale_bar_um


def _colour(label: int) -> list[int]:
    return [int(255 * part) for part in to_rgb(CLASS_COLORS[label])]


def _painted(labels: list[int], unfamiliar: list[bool] | None = None, **more: float) -> ClassOverlay:
    names = {label: f"class {label}" for label in labels}
    strange = np.array(unfamiliar or [False] * len(labels))
    return ClassOverlay(np.array(labels), names, strange, "stack.tif", ["A note."], **more)


def test_the_brighter_nucleus_shows_where_two_lie_above_each_other() -> None:
    marks = np.zeros((3, 4, 6), np.uint16)
    marks[0, :2], marks[1, 1:3], marks[2, 2:] = 40, 7, 9
    pixels = np.random.default_rng(0).integers(0, 50, marks.shape).astype(np.uint16)
    ids = np.array([7, 40])  # 9 was left out
    light, seen, stride = project_stack(zip(pixels, marks, strict=True), marks.shape, ids, np.array([5.0, 3.0]))
    assert stride == 1
    assert np.array_equal(light, pixels.max(axis=0))
    assert seen[:, 0].tolist() == [2, 1, 1, 0]
    assert project_stack(zip(pixels, marks, strict=True), marks.shape, ids, np.array([3.0, 5.0]))[1][:, 0].tolist() == [
        2,
        2,
        1,
        0,
    ]


def test_a_wide_stack_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nephros.microscopy.projection.MAX_SIDE", 10)
    marks = np.arange(25 * 13).reshape(1, 25, 13)
    _, seen, stride = project_stack(zip(marks, marks, strict=True), (1, 25, 13), np.arange(1, 325), np.ones(324))
    assert stride == 3
    assert np.array_equal(seen, marks[0, ::3, ::3])


def test_nuclei_wear_their_classes_colours_and_nothing_else_does() -> None:
    light = np.full((1000, 1000), 100.0, np.float32)
    light[0], light[1] = 0, 200
    seen = np.zeros((1000, 1000), np.int32)
    seen[100:200, 100:200], seen[300:400, 300:400] = 1, 2
    picture = render_overlay(light, seen, _painted([3, 6]))
    assert picture.shape == (1000, 1000, 3)
    assert picture[100, 150].tolist() == _colour(3)
    assert picture[300, 350].tolist() == _colour(6)
    inside = picture[150, 150].astype(int)
    assert inside[0] > inside[2] + 40  # yellow
    grey = picture[600, 600]
    assert grey[0] == grey[1] == grey[2]


def test_an_unfamiliar_nucleus_is_hatched_and_outlined_in_grey() -> None:
    light = np.tile(np.linspace(0, 100, 1000, dtype=np.float32), (1000, 1))
    seen = np.zeros((1000, 1000), np.int32)
    seen[100:200, 100:200] = 1
    picture = render_overlay(light, seen, _painted([5], [True]))
    outline = picture[100, 150].astype(int)
    assert outline.max() - outline.min() < 20
    block = picture[110:190, 110:190].astype(int)
    coloured = (block.max(axis=2) - block.min(axis=2)) > 20
    assert 0.3 < coloured.mean() < 0.7


def test_small_pictures_are_enlarged_and_the_bar_is_as_long_as_it_says() -> None:
    light = np.zeros((100, 300), np.float32)
    light[50:] = 3
    picture = render_overlay(light, np.zeros((100, 300), np.int32), _painted([0], pixel_um=0.5))
    assert picture.shape == (300, 900, 3)
    assert scale_bar_um(0.5 / 3, 900) == scale_bar_um(0.5, 300) == 20
    row = picture[300 - 6 - 2]
    assert (row == 255).all(axis=1).sum() == 20 / 0.5 * 3


def test_the_legend_counts_and_takes_odd_names() -> None:
    plain = render_legend(_painted([0, 1, 1]), 1000)
    more = render_legend(_painted([0] * 5000 + [1]), 1000)
    assert plain.shape == more.shape
    assert not np.array_equal(plain, more)
    odd = ClassOverlay(
        np.arange(14),
        {k: f"$x_{k}$ and a long name of a class that goes on" for k in range(14)},
        np.zeros(14, bool),
        "",
    )
    assert len(render_legend(odd, 300)) >= 300


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_files(name: str, tmp_path: Path) -> None:
    light, seen = np.random.default_rng(0).random((50, 60), np.float32), np.zeros((50, 60), np.int32)
    seen[5:20, 5:20] = 1
    save_overlay(tmp_path / name, light, seen, _painted([2]))
    with Image.open(tmp_path / name) as image:
        assert image.mode == "RGB"
    with pytest.raises(NephrosError, match="must end in"):
        save_overlay(tmp_path / "a.jpg", light, seen, _painted([2]))


@pytest.mark.slow
def test_twenty_thousand_nuclei_on_4096_pixels(tmp_path: Path) -> None:
    tissue = SyntheticStack((10, 4096, 4096))
    n = len(tissue.nucleus_types)
    assert n > 20_000
    light, seen, _ = project_stack(tissue.slices(), tissue.shape, np.arange(1, n + 1), tissue.intensities)
    painted = ClassOverlay(
        tissue.nucleus_types, {k: f"kind {k}" for k in range(8)}, np.zeros(n, np.bool_), "large", (), 0.5
    )
    save_overlay(tmp_path / "large.png", light, seen, painted)
    with Image.open(tmp_path / "large.png") as image:
        assert image.size[1] == 4096
