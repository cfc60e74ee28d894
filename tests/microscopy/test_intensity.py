"""Contrast limits: what the fitted rule achieves, and what the user may give instead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.data.reference_statistics import PIXEL_MEAN, PIXEL_STD
from nephros.errors import InvalidArgument
from nephros.microscopy.crops import N_BINS, CropFile, NucleusCrops, bin_indices
from nephros.microscopy.intensity import BLACK_PERCENTILES, IntensityHistogram


def _histogram(
    folder: Path, crops: NDArray[np.float32], stack: NDArray[np.float64] | None = None
) -> IntensityHistogram:
    values = crops.astype(np.float64) if stack is None else stack
    bounds = (float(values.min()), float(values.max()))
    crops.tofile(folder / "crops.raw")
    histogram = np.bincount(bin_indices(values, *bounds).ravel(), minlength=N_BINS)
    cut = NucleusCrops(CropFile(folder / "crops.raw", len(crops)), np.zeros((len(crops), 2), np.bool_), histogram)
    return IntensityHistogram(cut, bounds, np.ones(len(crops), np.bool_))


def _make_crops(gain: float = 100.0, offset: float = 700.0) -> NDArray[np.float32]:
    """Return crops with pixels distributed like TissueMNIST's: exponential, with the mean near the standard deviation."""
    samples = np.random.default_rng(0).exponential(25, (200, 32, 32))
    return (offset + gain * samples).astype(np.float32)


@pytest.mark.parametrize(("gain", "offset"), [(100, 700), (3, 0), (0.001, -5)])
def test_the_rule_reaches_the_training_datas_mean_and_deviation(gain: float, offset: float, tmp_path: Path) -> None:
    crops = _make_crops(gain, offset)
    limits = _histogram(tmp_path, crops).contrast_limits()
    pixels_uint8 = limits.apply(crops)
    assert pixels_uint8.mean() / 255 == pytest.approx(PIXEL_MEAN, abs=0.002)
    assert pixels_uint8.std() / 255 == pytest.approx(PIXEL_STD, rel=0.1)
    assert limits.black_level == pytest.approx(np.percentile(crops, 0.1), abs=gain)
    assert limits.black_percentile == pytest.approx(0.1, abs=0.05)


def test_the_black_level_brings_the_deviation_nearest(tmp_path: Path) -> None:
    """Under a lifted, uneven background only a higher black level gives enough contrast."""
    crops = _make_crops() + np.random.default_rng(1).normal(3000, 900, (200, 32, 32)).astype(np.float32)
    histogram = _histogram(tmp_path, crops)
    fitted = histogram.contrast_limits()
    errors = {}
    for percentile in BLACK_PERCENTILES:
        black_level = histogram.value_at_percentile(percentile)
        mean, std = histogram.moments(black_level, histogram.fit_white(black_level))
        assert mean == pytest.approx(PIXEL_MEAN, abs=1e-3)
        errors[black_level] = abs(std - PIXEL_STD)
    assert fitted.black_level == min(errors, key=errors.__getitem__)
    assert fitted.black_percentile > 1


def test_the_users_levels_and_percentiles_are_used(tmp_path: Path) -> None:
    crops = _make_crops()
    histogram = _histogram(tmp_path, crops)
    limits = histogram.contrast_limits(black_level=1000, white_level=5000)
    assert limits.apply(np.array([[[900, 1000, 3000, 5000, 9000]]], np.float32)).tolist() == [[[0, 0, 128, 255, 255]]]
    percentile_limits = histogram.contrast_limits(percentiles=(10, 99))
    assert percentile_limits.black_level == pytest.approx(np.percentile(crops, 10), abs=2)
    assert percentile_limits.white_level == pytest.approx(np.percentile(crops, 99), abs=2)
    assert histogram.contrast_limits(white_level=5000).white_level == 5000
    black_only = histogram.contrast_limits(black_level=2000)
    assert black_only.black_level == 2000
    assert black_only.apply(crops).mean() / 255 == pytest.approx(PIXEL_MEAN, abs=0.002)


def test_levels_0_and_255_keep_8_bit_pixels(tmp_path: Path) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (9, 32, 32)).astype(np.float32)
    assert np.array_equal(
        _histogram(tmp_path, crops).contrast_limits(black_level=0, white_level=255).apply(crops), crops.astype(np.uint8)
    )


@pytest.mark.parametrize(
    "kwargs",
    [
        {"black_level": 5, "white_level": 5},
        {"black_level": 9, "white_level": 1},
        {"black_level": float("nan"), "white_level": 1},
    ],
)
def test_levels_that_do_not_ascend_are_refused(kwargs: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument) as exc_info:
        _histogram(tmp_path, _make_crops()).contrast_limits(**kwargs)  # type: ignore[arg-type]
    assert exc_info.value.parameter == "white_level"


def test_crops_far_darker_than_the_training_data_still_get_limits(tmp_path: Path) -> None:
    crops = np.zeros((20, 32, 32), np.float32)
    crops[:, 16, 16] = 1000
    limits = _histogram(tmp_path, crops).contrast_limits()
    assert np.isfinite([limits.black_level, limits.white_level]).all()
    assert limits.white_level > limits.black_level
