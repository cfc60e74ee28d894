"""From 16 bits to 8: the rule's result, and what the user may give instead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.data.reference_statistics import PIXEL_MEAN, PIXEL_STD
from nephros.errors import UserError
from nephros.microscopy.crops import BINS, Cut, Projections, bins_of
from nephros.microscopy.intensity import BLACKS, Pixels


def _pixels(folder: Path, crops: NDArray[np.float32], stack: NDArray[np.float64] | None = None) -> Pixels:
    values = crops.astype(np.float64) if stack is None else stack
    bounds = (float(values.min()), float(values.max()))
    crops.tofile(folder / "crops.raw")
    histogram = np.bincount(bins_of(values, *bounds).ravel(), minlength=BINS)
    cut = Cut(Projections(folder / "crops.raw", len(crops)), np.zeros((len(crops), 2), np.bool_), histogram)
    return Pixels(cut, bounds, np.ones(len(crops), np.bool_))


def _crops(gain: float = 100.0, offset: float = 700.0) -> NDArray[np.float32]:
    """Crops whose pixels spread as TissueMNIST's do: exponentially, mean near the standard deviation."""
    drawn = np.random.default_rng(0).exponential(25, (200, 32, 32))
    return (offset + gain * drawn).astype(np.float32)


@pytest.mark.parametrize(("gain", "offset"), [(100, 700), (3, 0), (0.001, -5)])
def test_the_rule_reaches_the_training_datas_histogram(gain: float, offset: float, tmp_path: Path) -> None:
    crops = _crops(gain, offset)
    levels = _pixels(tmp_path, crops).levels()
    eight = levels.apply(crops)
    assert eight.mean() / 255 == pytest.approx(PIXEL_MEAN, abs=0.002)
    assert eight.std() / 255 == pytest.approx(PIXEL_STD, rel=0.1)
    assert levels.black == pytest.approx(np.percentile(crops, 0.1), abs=gain)
    assert levels.black_percentile == pytest.approx(0.1, abs=0.05)


def test_black_is_the_percentile_that_brings_the_deviation_nearest(tmp_path: Path) -> None:
    """Under a lifted, uneven background only a higher black level gives enough contrast."""
    crops = _crops() + np.random.default_rng(1).normal(3000, 900, (200, 32, 32)).astype(np.float32)
    pixels = _pixels(tmp_path, crops)
    chosen = pixels.levels()
    errors = {}
    for percentile in BLACKS:
        black = pixels.at(percentile)
        mean, std = pixels.moments(black, pixels.white_for(black))
        assert mean == pytest.approx(PIXEL_MEAN, abs=1e-3)
        errors[black] = abs(std - PIXEL_STD)
    assert chosen.black == min(errors, key=errors.__getitem__)
    assert chosen.black_percentile > 1


def test_what_the_user_gives_is_taken(tmp_path: Path) -> None:
    crops = _crops()
    pixels = _pixels(tmp_path, crops)
    both = pixels.levels(black=1000, white=5000)
    assert both.apply(np.array([[[900, 1000, 3000, 5000, 9000]]], np.float32)).tolist() == [[[0, 0, 128, 255, 255]]]
    shares = pixels.levels(percentiles=(10, 99))
    assert shares.black == pytest.approx(np.percentile(crops, 10), abs=2)
    assert shares.white == pytest.approx(np.percentile(crops, 99), abs=2)
    assert pixels.levels(white=5000).white == 5000
    dark = pixels.levels(black=2000)
    assert dark.black == 2000
    assert dark.apply(crops).mean() / 255 == pytest.approx(PIXEL_MEAN, abs=0.002)


def test_8_bit_pixels_stay_as_they_are_with_0_and_255(tmp_path: Path) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (9, 32, 32)).astype(np.float32)
    assert np.array_equal(_pixels(tmp_path, crops).levels(black=0, white=255).apply(crops), crops.astype(np.uint8))


@pytest.mark.parametrize(
    "given", [{"black": 5, "white": 5}, {"black": 9, "white": 1}, {"black": float("nan"), "white": 1}]
)
def test_levels_without_room_between_them(given: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="white must be the brighter one"):
        _pixels(tmp_path, _crops()).levels(**given)  # type: ignore[arg-type]


def test_crops_far_darker_than_the_target_still_get_levels(tmp_path: Path) -> None:
    crops = np.zeros((20, 32, 32), np.float32)
    crops[:, 16, 16] = 1000
    levels = _pixels(tmp_path, crops).levels()
    assert np.isfinite([levels.black, levels.white]).all()
    assert levels.white > levels.black
