"""The overlay of predicted classes: which pixels get which color, the legend, and the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from nephros.errors import InvalidArgument
from nephros.microscopy.synthetic import SyntheticStack
from nephros.reporting import stack_overlay
from nephros.reporting.stack_overlay import (
    ClassOverlay,
    project_stack,
    render_legend,
    render_overlay,
    save_overlay,
    scale_bar_um,
)
from nephros.tissue.class_colors import CLASS_COLORS


def _class_rgb(label: int) -> list[int]:
    return [int(255 * part) for part in to_rgb(CLASS_COLORS[label])]


def _class_overlay(labels: list[int], is_ood: list[bool] | None = None, pixel_um: float | None = None) -> ClassOverlay:
    class_names = {label: f"class {label}" for label in labels}
    ood = np.array(is_ood or [False] * len(labels))
    return ClassOverlay(np.array(labels), class_names, ood, "stack.tif", ["A note."], pixel_um)


def _nuclei_map(*boxes: slice) -> NDArray[np.int32]:
    """Return a 1000x1000 map with one square nucleus per argument."""
    visible_nuclei = np.zeros((1000, 1000), np.int32)
    for index, box in enumerate(boxes, start=1):
        visible_nuclei[box, box] = index
    return visible_nuclei


@pytest.mark.parametrize(
    ("mean_intensity", "expected"), [([5.0, 3.0], [2, 1, 1, 0]), ([3.0, 5.0], [2, 2, 1, 0])], ids=["7", "40"]
)
def test_the_brighter_of_two_overlapping_nuclei_is_visible(mean_intensity: list[float], expected: list[int]) -> None:
    mask = np.zeros((3, 4, 6), np.uint16)
    mask[0, :2], mask[1, 1:3], mask[2, 2:] = 40, 7, 9
    pixels = np.random.default_rng(0).integers(0, 50, mask.shape).astype(np.uint16)
    ids = np.array([7, 40])  # nucleus 9 was left out
    projection, visible_nuclei, stride = project_stack(
        zip(pixels, mask, strict=True), mask.shape, ids, np.array(mean_intensity)
    )
    assert stride == 1
    assert np.array_equal(projection, pixels.max(axis=0))
    # Row 1 belongs to both nuclei, and index 1 + place in `ids` names the brighter.
    assert visible_nuclei[:, 0].tolist() == expected


def test_a_wide_stack_is_subsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_overlay, "MAX_PROJECTION_SIDE", 10)
    mask = np.arange(25 * 13).reshape(1, 25, 13)
    _, visible_nuclei, stride = project_stack(
        zip(mask, mask, strict=True), (1, 25, 13), np.arange(1, 325), np.ones(324)
    )
    assert stride == 3
    assert np.array_equal(visible_nuclei, mask[0, ::3, ::3])


@pytest.fixture
def no_enlargement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of 1,000 pixels keep their size."""
    monkeypatch.setattr(stack_overlay, "_MIN_SIDE", 1000)


def _disc(radius: int = 60) -> NDArray[np.int32]:
    y, x = np.indices((1000, 1000))
    return ((y - 500) ** 2 + (x - 500) ** 2 < radius**2).astype(np.int32)


def _colorful(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how far each pixel is from gray."""
    values = image.astype(np.int64)
    return np.asarray(values.max(axis=-1) - values.min(axis=-1))


@pytest.mark.usefixtures("no_enlargement")
def test_nuclei_have_the_colors_of_their_classes_and_the_rest_is_gray() -> None:
    projection = np.full((1000, 1000), 100.0, np.float32)
    projection[0], projection[1] = 0, 200
    nuclei = _nuclei_map(slice(100, 200), slice(300, 400))
    image = render_overlay(projection, nuclei, _class_overlay([3, 6]))
    assert image.shape == (1000, 1000, 3)
    for label, box in [(3, image[95:205, 95:205]), (6, image[295:405, 295:405])]:
        differences = np.abs(box.astype(int) - _class_rgb(label)).max(axis=-1)
        assert (differences < 60).sum() > 300, "its outline is 400 pixels long"
    inside = image[150, 150].astype(int)
    assert inside[0] > inside[2] + 15  # yellow
    assert not _colorful(image[450:]).any()


@pytest.mark.usefixtures("no_enlargement")
def test_outlines_are_smooth_and_dashed_where_out_of_distribution() -> None:
    projection = np.tile(np.linspace(0, 100, 1000, dtype=np.float32), (1000, 1))
    solid, dashed = (render_overlay(projection, _disc(), _class_overlay([5], [is_ood])) for is_ood in (False, True))
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    # The most colorful pixel along each ray from the center, near the outline.
    radii = np.arange(56, 63)
    y = np.round(500 + radii[:, None] * np.sin(angles)).astype(int)
    x = np.round(500 + radii[:, None] * np.cos(angles)).astype(int)
    peaks = {style: _colorful(image)[y, x].max(axis=0) for style, image in (("solid", solid), ("dashed", dashed))}
    threshold = 0.5 * np.median(peaks["solid"])
    assert (peaks["solid"] > threshold).mean() > 0.99
    assert 0.4 < (peaks["dashed"] > threshold).mean() < 0.9
    assert len(np.unique(_colorful(solid)[430:570, 430:570])) > 40, "the edge has many shades"
    # Only the outline differs: most of the tissue looks the same, however many nuclei are out of distribution.
    assert np.array_equal(solid[480:520, 480:520], dashed[480:520, 480:520])


@pytest.mark.usefixtures("no_enlargement")
def test_dashes_of_a_dark_color_have_gaps_on_bright_tissue() -> None:
    projection = np.full((1000, 1000), 100, np.float32)
    projection[:, :30] = 0
    angles, radii = np.linspace(0, 2 * np.pi, 720, endpoint=False), np.arange(56, 63)
    y = np.round(500 + radii[:, None] * np.sin(angles)).astype(int)
    x = np.round(500 + radii[:, None] * np.cos(angles)).astype(int)
    dark = {}
    for is_ood in (False, True):
        image = render_overlay(projection, _disc(), _class_overlay([4], [is_ood]))
        dark[is_ood] = (image[y, x].mean(axis=-1).min(axis=0) < 140).mean()
    assert dark[False] > 0.99
    assert 0.4 < dark[True] < 0.9


@pytest.mark.usefixtures("no_enlargement")
def test_a_nucleus_without_a_class_is_not_drawn() -> None:
    projection = np.tile(np.linspace(0, 100, 1000, dtype=np.float32), (1000, 1))
    image = render_overlay(projection, _disc(), _class_overlay([-1]))
    assert not _colorful(image).any()


@pytest.mark.usefixtures("no_enlargement")
@pytest.mark.parametrize("band_rows", [64, 1024])
def test_bands_of_rows_give_one_image(band_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    projection = np.tile(np.linspace(0, 100, 1000, dtype=np.float32), (1000, 1))
    whole = render_overlay(projection, _disc(300), _class_overlay([2]))
    monkeypatch.setattr(stack_overlay, "_BAND_ROWS", band_rows)
    banded = render_overlay(projection, _disc(300), _class_overlay([2]))
    assert np.abs(whole.astype(int) - banded).max() <= 8


def test_small_images_are_enlarged_and_the_scale_bar_has_its_stated_length() -> None:
    projection = np.zeros((100, 300), np.float32)
    projection[50:] = 3
    image = render_overlay(projection, np.zeros((100, 300), np.int32), _class_overlay([0], pixel_um=0.5))
    assert image.shape == (600, 1800, 3)
    assert scale_bar_um(0.5 / 6, 1800) == scale_bar_um(0.5, 300) == 20
    row = image[600 - 20 - 3]
    assert (row == 255).all(axis=1).sum() == pytest.approx(20 / 0.5 * 6, abs=1)
    text = image[600 - 70 : 600 - 30, :300]
    assert (text == 255).all(axis=2).sum() > 50, "the bar's length stands above it"


def test_the_legend_shows_counts() -> None:
    few, many = render_legend(_class_overlay([0, 1, 1]), 1000), render_legend(_class_overlay([0] * 5000 + [1]), 1000)
    assert few.shape == many.shape
    assert not np.array_equal(few, many)


def test_the_legend_fits_many_long_names_with_markup() -> None:
    class_names = {label: f"$x_{label}$ and a long name of a class that goes on" for label in range(14)}
    overlay = ClassOverlay(np.arange(14), class_names, np.zeros(14, bool), "")
    assert len(render_legend(overlay, 300)) >= 300


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_overlays_are_saved_as_png_and_tiff(name: str, tmp_path: Path) -> None:
    projection = np.random.default_rng(0).random((50, 60), np.float32)
    visible_nuclei = np.zeros((50, 60), np.int32)
    visible_nuclei[5:20, 5:20] = 1
    save_overlay(tmp_path / name, projection, visible_nuclei, _class_overlay([2]))
    with Image.open(tmp_path / name) as image:
        assert image.mode == "RGB"
    with pytest.raises(InvalidArgument) as exc_info:
        save_overlay(tmp_path / "a.jpg", projection, visible_nuclei, _class_overlay([2]))
    assert (exc_info.value.parameter, exc_info.value.value) == ("out", tmp_path / "a.jpg")


@pytest.mark.slow
def test_twenty_thousand_nuclei_on_4096_pixels(tmp_path: Path) -> None:
    tissue = SyntheticStack((10, 4096, 4096))
    n = len(tissue.nucleus_types)
    assert n > 20_000
    projection, visible_nuclei, _ = project_stack(
        tissue.slices(), tissue.shape, np.arange(1, n + 1), tissue.intensities
    )
    class_names = {label: f"class {label}" for label in range(8)}
    overlay = ClassOverlay(tissue.nucleus_types, class_names, np.zeros(n, np.bool_), "large", (), 0.5)
    save_overlay(tmp_path / "large.png", projection, visible_nuclei, overlay)
    with Image.open(tmp_path / "large.png") as image:
        assert image.size[1] == 4096
