"""From a stack's intensities to 8 bits: one linear map for the whole stack, so that its nuclei stay comparable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.array_types import Float32Array
from nephros.data.reference_statistics import PIXEL_MEAN, PIXEL_STD
from nephros.errors import InvalidArgument
from nephros.microscopy.crops import N_BINS, NucleusCrops, bin_indices

BLACK_PERCENTILES = (0.1, 1.0, 5.0, 10.0, 25.0, 50.0)
"""Percentiles of the stack's voxels that are tried as the black level."""
_BLACK_PERCENTILES_TEXT = ", ".join(f"{percentile:g}" for percentile in BLACK_PERCENTILES)

FITTED_RULE = (
    f"the white level brings the mean of the crops' pixels to TissueMNIST's {PIXEL_MEAN:.3f}; the black level is the percentile "
    f"out of {_BLACK_PERCENTILES_TEXT} that then brings their standard deviation nearest to its {PIXEL_STD:.3f}"
)


@dataclass(frozen=True)
class ContrastLimits:
    """The intensities of a stack that become 0 and 255."""

    black_level: float
    white_level: float
    rule: str
    """How the levels were chosen, for people."""
    black_percentile: float
    """Percent of the stack's voxels at or below the black level."""
    white_percentile: float

    def apply(self, pixels: Float32Array) -> NDArray[np.uint8]:
        """Map intensities, float32 of any shape, to uint8."""
        scaled = (pixels - np.float32(self.black_level)) * np.float32(255 / (self.white_level - self.black_level))
        pixels_uint8: NDArray[np.uint8] = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
        return pixels_uint8


def check_contrast_options(
    black_level: float | None, white_level: float | None, percentiles: tuple[float, float] | None
) -> None:
    """Check the contrast options of a user before any work is done.

    Raises:
        InvalidArgument: percentiles are given together with a level, or percentiles or levels are not in ascending order.
    """
    if percentiles is not None:
        low, high = percentiles
        text = f"{low:g},{high:g}"
        if not 0 <= low < high <= 100:
            raise InvalidArgument("percentiles", text, "two ascending numbers from 0 to 100, such as 1,99.8")
        if black_level is not None or white_level is not None:
            raise InvalidArgument("percentiles", text, "left out where `black_level` or `white_level` is given")
    if black_level is not None and white_level is not None:
        _check_levels(black_level, white_level)


def _check_levels(black_level: float, white_level: float) -> None:
    if not (np.isfinite([black_level, white_level]).all() and white_level > black_level):
        raise InvalidArgument("white_level", f"{white_level:g}", f"above the black level, {black_level:g}")


class IntensityHistogram:
    """Histograms of a stack's voxels and of its crops' pixels, from which the contrast limits are determined."""

    def __init__(self, crops: NucleusCrops, bounds: tuple[float, float], selected: NDArray[np.bool_]) -> None:
        """Compute the histograms.

        Args:
            crops: all crops of the stack.
            bounds: lowest and highest intensity of the stack.
            selected: (n,) bool, the crops to count: those entirely within the stack.
        """
        self.bin_values = np.linspace(*bounds, N_BINS)
        self.cumulative = np.cumsum(crops.histogram) / crops.histogram.sum()
        counts = np.zeros(N_BINS, dtype=np.int64)
        for batch in crops.projections.iter_batches(selected, 256):
            counts += np.bincount(bin_indices(batch, *bounds).ravel(), minlength=N_BINS)
        self.crop_values, self.crop_frequencies = self.bin_values[counts > 0], counts[counts > 0] / counts.sum()

    def value_at_percentile(self, percentile: float) -> float:
        """Return the intensity at a percentile of the stack's voxels."""
        return float(self.bin_values[min(int(np.searchsorted(self.cumulative, percentile / 100)), N_BINS - 1)])

    def percentile_of(self, value: float) -> float:
        """Return the percentage of the stack's voxels at or below an intensity."""
        index = int(np.searchsorted(self.bin_values, value, side="right")) - 1
        return 100 * float(self.cumulative[index]) if index >= 0 else 0.0

    def moments(self, black_level: float, white_level: float) -> tuple[float, float]:
        """Return the mean and standard deviation, from 0 to 1, of the crops' pixels after mapping with these levels."""
        # Sums and no dot products: a BLAS would start threads for each, which wait for each other on a busy machine.
        rescaled = np.clip((self.crop_values - black_level) / (white_level - black_level), 0, 1)
        mean = float((self.crop_frequencies * rescaled).sum())
        return mean, float(np.sqrt(max(float((self.crop_frequencies * rescaled**2).sum()) - mean**2, 0.0)))

    def fit_white(self, black_level: float) -> float:
        """Return the white level that brings the crops' mean to the training data's, by bisection.

        The mean decreases as the white level increases.
        """
        intensity_range = float(self.bin_values[-1]) - float(self.bin_values[0])
        low, high = black_level + 1e-6 * intensity_range, black_level + 20 * intensity_range
        for _ in range(60):
            middle = (low * high) ** 0.5 if low > 0 else (low + high) / 2
            if self.moments(black_level, middle)[0] > PIXEL_MEAN:
                low = middle
            else:
                high = middle
        return high

    def contrast_limits(
        self,
        black_level: float | None = None,
        white_level: float | None = None,
        percentiles: tuple[float, float] | None = None,
    ) -> ContrastLimits:
        """Return the limits that the user gives, and fit those that are not given by FITTED_RULE.

        Raises:
            InvalidArgument: the white level is not above the black level.
        """
        if percentiles is not None:
            low, high = percentiles
            rule = f"given: percentiles {low:g} and {high:g} of the stack's voxels"
            return self._limits(self.value_at_percentile(low), self.value_at_percentile(high), rule)
        if black_level is not None and white_level is not None:
            return self._limits(black_level, white_level, "given: black and white level")
        if white_level is not None:
            rule = f"white level given; the black level is percentile {BLACK_PERCENTILES[0]:g}"
            return self._limits(self.value_at_percentile(BLACK_PERCENTILES[0]), white_level, rule)
        if black_level is not None:
            rule = f"black level given; the white level brings the mean of the crops' pixels to {PIXEL_MEAN:.3f}"
            return self._limits(black_level, self.fit_white(black_level), rule)
        candidates = dict.fromkeys(self.value_at_percentile(percentile) for percentile in BLACK_PERCENTILES)
        fits = [(candidate, self.fit_white(candidate)) for candidate in candidates]
        best = min(fits, key=lambda fit: abs(self.moments(*fit)[1] - PIXEL_STD))
        return self._limits(*best, FITTED_RULE)

    def _limits(self, black_level: float, white_level: float, rule: str) -> ContrastLimits:
        _check_levels(black_level, white_level)
        return ContrastLimits(
            black_level, white_level, rule, self.percentile_of(black_level), self.percentile_of(white_level)
        )
