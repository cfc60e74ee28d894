"""From a stack's own brightness to 8 bits: one line for the whole stack, so that its nuclei still compare."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.data.reference_statistics import PIXEL_MEAN, PIXEL_STD
from nephros.errors import NephrosError
from nephros.microscopy.crops import N_BINS, Float32Array, NucleusCrops, bin_indices

BLACK_PERCENTILES = (0.1, 1.0, 5.0, 10.0, 25.0, 50.0)
"""Percentiles of the stack's pixels that are tried as black."""
_BLACK_PERCENTILES_TEXT = ", ".join(f"{percentile:g}" for percentile in BLACK_PERCENTILES)

FITTED_RULE = (
    f"white is where the crops' pixel mean is TissueMNIST's, {PIXEL_MEAN:.3f}; black is the percentile out of "
    f"{_BLACK_PERCENTILES_TEXT} at which their standard deviation then comes nearest to its {PIXEL_STD:.3f}"
)


@dataclass(frozen=True)
class ContrastLimits:
    """Which of a stack's pixel values become 0 and 255, and by what rule."""

    black_level: float
    white_level: float
    rule: str
    black_percentile: float
    """Percent of the stack's pixels that are no brighter than black."""
    white_percentile: float

    def apply(self, pixels: Float32Array) -> NDArray[np.uint8]:
        """Map float32 pixels of the stack's units to uint8, of any shape."""
        scaled = (pixels - np.float32(self.black_level)) * np.float32(255 / (self.white_level - self.black_level))
        pixels_uint8: NDArray[np.uint8] = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
        return pixels_uint8


class IntensityHistogram:
    """The pixels of a stack and of its crops, as histograms from which levels are found."""

    def __init__(self, crops: NucleusCrops, bounds: tuple[float, float], selected: NDArray[np.bool_]) -> None:
        """Take the crops where `selected` is true, those that lie wholly in the stack."""
        self.bin_values = np.linspace(*bounds, N_BINS)
        self.cumulative = np.cumsum(crops.histogram) / crops.histogram.sum()
        counts = np.zeros(N_BINS, dtype=np.int64)
        for batch in crops.projections.iter_batches(selected, 256):
            counts += np.bincount(bin_indices(batch, *bounds).ravel(), minlength=N_BINS)
        self.crop_values, self.crop_frequencies = self.bin_values[counts > 0], counts[counts > 0] / counts.sum()

    def value_at_percentile(self, percentile: float) -> float:
        """Return the brightness below or at which so many percent of the stack's pixels lie."""
        return float(self.bin_values[min(int(np.searchsorted(self.cumulative, percentile / 100)), N_BINS - 1)])

    def percentile_of(self, value: float) -> float:
        """Return how many percent of the stack's pixels are no brighter than `value`."""
        index = int(np.searchsorted(self.bin_values, value, side="right")) - 1
        return 100 * float(self.cumulative[index]) if index >= 0 else 0.0

    def moments(self, black_level: float, white_level: float) -> tuple[float, float]:
        """Return mean and standard deviation, of 1, of the crops' pixels between these levels."""
        # Sums and no dot products: a BLAS would start threads for each, which on a busy machine wait for each other.
        rescaled = np.clip((self.crop_values - black_level) / (white_level - black_level), 0, 1)
        mean = float((self.crop_frequencies * rescaled).sum())
        return mean, float(np.sqrt(max(float((self.crop_frequencies * rescaled**2).sum()) - mean**2, 0.0)))

    def fit_white(self, black_level: float) -> float:
        """Return the white level at which the crops' mean is the training data's, by halving; it falls as white rises."""
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
        """Return the levels that the user gives, or those of the rule FITTED.

        Raises:
            UserError: the levels given leave no room between them.
        """
        if percentiles is not None:
            rule = f"given: percentiles {percentiles[0]:g} and {percentiles[1]:g} of the stack's pixels"
            return self._validated(
                self.value_at_percentile(percentiles[0]),
                self.value_at_percentile(percentiles[1]),
                rule,
                "--percentiles",
            )
        if black_level is not None and white_level is not None:
            return self._validated(
                black_level, white_level, "given: black and white", "--black-level and --white-level"
            )
        if white_level is not None:
            return self._validated(
                self.value_at_percentile(BLACK_PERCENTILES[0]),
                white_level,
                f"white given; black is percentile {BLACK_PERCENTILES[0]:g}",
                "--white-level",
            )
        candidates = (
            [self.value_at_percentile(percentile) for percentile in BLACK_PERCENTILES]
            if black_level is None
            else [black_level]
        )
        fits = [(level, self.fit_white(level)) for level in dict.fromkeys(candidates)]
        best = min(fits, key=lambda fit: abs(self.moments(*fit)[1] - PIXEL_STD))
        rule = (
            FITTED_RULE
            if black_level is None
            else f"black given; white is where the crops' pixel mean is {PIXEL_MEAN:.3f}"
        )
        return self._validated(*best, rule, "--black-level")

    def _validated(self, black_level: float, white_level: float, rule: str, source: str) -> ContrastLimits:
        if not (np.isfinite([black_level, white_level]).all() and white_level > black_level):
            raise NephrosError(
                f"{source} make black {black_level:g} and white {white_level:g}, but white must be the brighter one."
            )
        return ContrastLimits(
            black_level, white_level, rule, self.percentile_of(black_level), self.percentile_of(white_level)
        )
