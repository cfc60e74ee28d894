"""From 16 bits to 8: the rule's result, and what the user may give instead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.data.reference_statistics import PIXEL_MEAN, PIXEL_STD
from nephros.errors import InvalidArgument
from nephros.microscopy.crops import N_BINS, NucleusCrops, ProjectionFile, bin_indices
from nephros.microscopy.intensity import BLACK_PERCENTILES, IntensityHistogram


def _histogram(
    folder: Path, crops: NDArray[np.float32], stack: NDArray[np.float64] | None = None
) -> IntensityHistogram:
    values = crops.astype(np.float64) if stack is None else stack
    bounds = (float(values.min()), float(values.max()))
    crops.tofile(folder / "crops.raw")
    histogram = np.bincount(bin_indices(values, *bounds).ravel(), minlength=N_BINS)
    cut = NucleusCrops(ProjectionFile(folder / "crops.raw", len(crops)), np.zeros((len(crops), 2), np.bool_), histogram)
    return IntensityHistogram(cut, bounds, np.ones(len(crops), np.bool_))


def _make_crops(gain: float = 100.0, offset: float = 700.0) -> NDArray[np.float32]:
    """Crops whose pixels spread as TissueMNIST's do: exponentially, mean near the standard deviation."""
    samples = np.random.default_rng(0).exponential(25, (200, 32, 32))
    return (offset + gain * samples).astype(np.float32)


@pytest.mark.parametrize(("gain", "offset"), [(100, 700), (3, 0), (0.001, -5)])
def test_the_rule_reaches_the_training_datas_histogram(gain: float, offset: float, tmp_path: Path) -> None:
    crops = _make_crops(gain, offset)
    levels = _histogram(tmp_path, crops).contrast_limits()
    pixels_uint8 = levels.apply(crops)
    assert pixels_uint8.mean() / 255 == pytest.approx(PIXEL_MEAN, abs=0.002)
    assert pixels_uint8.std() / 255 == pytest.approx(PIXEL_STD, rel=0.1)
    assert levels.black_level == pytest.approx(np.percentile(crops, 0.1), abs=gain)
    assert levels.black_percentile == pytest.approx(0.1, abs=0.05)


def test_black_is_the_percentile_that_brings_the_deviation_nearest(tmp_path: Path) -> None:
    """Under a lifted, uneven background only a higher black level gives enough contrast."""
    crops = _make_crops() + np.random.default_rng(1).normal(3000, 900, (200, 32, 32)).astype(np.float32)
    pixels = _histogram(tmp_path, crops)
    chosen = pixels.contrast_limits()
    errors = {}
    for percentile in BLACK_PERCENTILES:
        black_level = pixels.value_at_percentile(percentile)
        mean, std = pixels.moments(black_level, pixels.fit_white(black_level))
        assert mean == pytest.approx(PIXEL_MEAN, abs=1e-3)
        errors[black_level] = abs(std - PIXEL_STD)
    assert chosen.black_level == min(errors, key=errors.__getitem__)
    assert chosen.black_percentile > 1


def test_what_the_user_gives_is_taken(tmp_path: Path) -> None:
    crops = _make_crops()
    pixels = _histogram(tmp_path, crops)
    limits = pixels.contrast_limits(black_level=1000, white_level=5000)
    assert limits.apply(np.array([[[900, 1000, 3000, 5000, 9000]]], np.float32)).tolist() == [[[0, 0, 128, 255, 255]]]
    percentile_limits = pixels.contrast_limits(percentiles=(10, 99))
    assert percentile_limits.black_level == pytest.approx(np.percentile(crops, 10), abs=2)
    assert percentile_limits.white_level == pytest.approx(np.percentile(crops, 99), abs=2)
    assert pixels.contrast_limits(white_level=5000).white_level == 5000
    black_only = pixels.contrast_limits(black_level=2000)
    assert black_only.black_level == 2000
    assert black_only.apply(crops).mean() / 255 == pytest.approx(PIXEL_MEAN, abs=0.002)


def test_8_bit_pixels_stay_as_they_are_with_0_and_255(tmp_path: Path) -> None:
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
def test_levels_without_room_between_them(kwargs: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument) as exc_info:
        _histogram(tmp_path, _make_crops()).contrast_limits(**kwargs)  # type: ignore[arg-type]
    assert exc_info.value.parameter == "white_level"


def test_crops_far_darker_than_the_target_still_get_levels(tmp_path: Path) -> None:
    crops = np.zeros((20, 32, 32), np.float32)
    crops[:, 16, 16] = 1000
    levels = _histogram(tmp_path, crops).contrast_limits()
    assert np.isfinite([levels.black_level, levels.white_level]).all()
    assert levels.white_level > levels.black_level
