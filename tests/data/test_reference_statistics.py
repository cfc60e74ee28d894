"""Warnings about images that differ from the training data."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nephros.data import reference_statistics
from nephros.data.load import load_dataset
from nephros.data.pixel_statistics import pixel_statistics
from nephros.data.reference_statistics import (
    CELL_AREA_RANGE,
    CELL_MEAN_RANGE,
    MEDIAN_AREA,
    PIXEL_MEAN,
    PIXEL_STD,
    nucleus_area_fraction,
    shift_warnings,
)


def _make_discs(radius: float, n: int = 60, low: int = 14, high: int = 68) -> NDArray[np.uint8]:
    y, x = np.mgrid[:28, :28] - 13.5
    random = np.random.default_rng(0)
    spread = radius * np.exp(random.normal(0, 0.1, n))[:, None, None]
    disc = 1 / (1 + np.exp((np.hypot(y, x)[None] - spread) * 1.5))
    gain = high * np.exp(random.normal(0, 0.3, n))[:, None, None]
    images: NDArray[np.uint8] = np.clip(low + gain * disc + random.normal(0, 2, (n, 28, 28)), 0, 255).astype(np.uint8)
    return images


def test_the_area_is_that_of_the_disc_in_the_center() -> None:
    for radius in (4.0, 6.0, 9.0):
        areas = nucleus_area_fraction(_make_discs(radius)) * 784
        assert np.median(areas) == pytest.approx(np.pi * radius**2, rel=0.15)


def test_neighbors_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    images = _make_discs(5.0)
    expected = nucleus_area_fraction(images)
    images[:, :4, :] = 200
    monkeypatch.setattr(reference_statistics, "_BATCH_SIZE", 7)
    assert np.allclose(nucleus_area_fraction(images), expected, atol=0.03)


def test_images_like_the_training_data_cause_no_warning() -> None:
    radius = float(np.sqrt(MEDIAN_AREA * 784 / np.pi))
    assert shift_warnings(_make_discs(radius)) == []
    assert shift_warnings(np.zeros((0, 28, 28), np.uint8)) == []


def test_each_kind_of_difference_has_its_warning() -> None:
    radius = float(np.sqrt(MEDIAN_AREA * 784 / np.pi))
    assert any("times larger" in line and "`voxel_size`" in line for line in shift_warnings(_make_discs(1.7 * radius)))
    assert any("times smaller" in line for line in shift_warnings(_make_discs(0.5 * radius)))
    dark = shift_warnings(_make_discs(radius, low=1, high=20))
    assert any("brightness" in line and "`white_level`" in line for line in dark)
    assert any("100% of the nuclei have a brightness" in line for line in shift_warnings(_make_discs(radius, low=180)))
    assert not any("times" in line for line in dark)


@pytest.mark.slow
@pytest.mark.usefixtures("real_data")
def test_figures_match_the_train_split_and_a_zoom_is_detected() -> None:
    images = load_dataset("tissuemnist").train.images
    assert pixel_statistics(images) == pytest.approx((PIXEL_MEAN, PIXEL_STD), abs=2e-4)
    sample = images[::8]
    areas, means = nucleus_area_fraction(sample), sample.mean(axis=(1, 2)) / 255
    assert np.median(areas) == pytest.approx(MEDIAN_AREA, rel=0.02)
    assert np.percentile(areas, (0.5, 99.5)) == pytest.approx(CELL_AREA_RANGE, rel=0.05)
    assert np.percentile(means, (0.5, 99.5)) == pytest.approx(CELL_MEAN_RANGE, rel=0.05)
    assert shift_warnings(sample) == []
    zoomed = [
        np.asarray(Image.fromarray(image).resize((42, 42), Image.Resampling.BICUBIC))[7:35, 7:35]
        for image in sample[:3000]
    ]
    assert any("1.4 times larger" in line or "1.5 times larger" in line for line in shift_warnings(np.stack(zoomed)))
