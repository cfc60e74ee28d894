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
from nephros.reporting.plots.style import CLASS_COLORS
from nephros.reporting.stack_overlay import (
    ClassOverlay,
    project_stack,
    render_legend,
    render_overlay,
    save_overlay,
    scale_bar_um,
)


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


def test_nuclei_have_the_colors_of_their_classes_and_the_rest_is_gray() -> None:
    projection = np.full((1000, 1000), 100.0, np.float32)
    projection[0], projection[1] = 0, 200
    nuclei = _nuclei_map(slice(100, 200), slice(300, 400))
    image = render_overlay(projection, nuclei, _class_overlay([3, 6]))
    assert image.shape == (1000, 1000, 3)
    assert image[100, 150].tolist() == _class_rgb(3)
    assert image[300, 350].tolist() == _class_rgb(6)
    inside = image[150, 150].astype(int)
    assert inside[0] > inside[2] + 40  # yellow
    background = image[600, 600]
    assert background[0] == background[1] == background[2]


def test_a_nucleus_out_of_distribution_is_hatched_and_outlined_in_gray() -> None:
    projection = np.tile(np.linspace(0, 100, 1000, dtype=np.float32), (1000, 1))
    nuclei = _nuclei_map(slice(100, 200))
    image = render_overlay(projection, nuclei, _class_overlay([5], [True]))
    outline = image[100, 150].astype(int)
    assert outline.max() - outline.min() < 20
    interior = image[110:190, 110:190].astype(int)
    is_colored = (interior.max(axis=2) - interior.min(axis=2)) > 20
    assert 0.3 < is_colored.mean() < 0.7


def test_small_images_are_enlarged_and_the_scale_bar_has_its_stated_length() -> None:
    projection = np.zeros((100, 300), np.float32)
    projection[50:] = 3
    image = render_overlay(projection, np.zeros((100, 300), np.int32), _class_overlay([0], pixel_um=0.5))
    assert image.shape == (300, 900, 3)
    assert scale_bar_um(0.5 / 3, 900) == scale_bar_um(0.5, 300) == 20
    row = image[300 - 6 - 2]
    assert (row == 255).all(axis=1).sum() == 20 / 0.5 * 3


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
