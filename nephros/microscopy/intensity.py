"""From a stack's own brightness to 8 bits: one line for the whole stack, so that its nuclei still compare."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.data.reference_statistics import PIXEL_MEAN, PIXEL_STD
from nephros.errors import UserError
from nephros.microscopy.crops import BINS, Cut, Floats, bins_of

BLACKS = (0.1, 1.0, 5.0, 10.0, 25.0, 50.0)
"""Percentiles of the stack's pixels that are tried as black."""
_BLACK_LEVELS = ", ".join(f"{percentile:g}" for percentile in BLACKS)

FITTED = (
    f"white is where the crops' pixel mean is TissueMNIST's, {PIXEL_MEAN:.3f}; black is the percentile out of "
    f"{_BLACK_LEVELS} at which their standard deviation then comes nearest to its {PIXEL_STD:.3f}"
)


@dataclass(frozen=True)
class Levels:
    """Which of a stack's pixel values become 0 and 255, and by what rule."""

    black: float
    white: float
    rule: str
    black_percentile: float
    """Percent of the stack's pixels that are no brighter than black."""
    white_percentile: float

    def apply(self, pixels: Floats) -> NDArray[np.uint8]:
        """Map float32 pixels of the stack's units to uint8, of any shape."""
        scaled = (pixels - np.float32(self.black)) * np.float32(255 / (self.white - self.black))
        eight: NDArray[np.uint8] = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
        return eight


class Pixels:
    """The pixels of a stack and of its crops, as histograms from which levels are found."""

    def __init__(self, cut: Cut, bounds: tuple[float, float], wanted: NDArray[np.bool_]) -> None:
        """Take the crops where `wanted` is true, those that lie wholly in the stack."""
        self.values = np.linspace(*bounds, BINS)
        self.below = np.cumsum(cut.histogram) / cut.histogram.sum()
        counts = np.zeros(BINS, dtype=np.int64)
        for batch in cut.projections.batches(wanted, 256):
            counts += np.bincount(bins_of(batch, *bounds).ravel(), minlength=BINS)
        self.crop_values, self.share = self.values[counts > 0], counts[counts > 0] / counts.sum()

    def at(self, percentile: float) -> float:
        """Return the brightness below or at which so many percent of the stack's pixels lie."""
        return float(self.values[min(int(np.searchsorted(self.below, percentile / 100)), BINS - 1)])

    def percentile(self, value: float) -> float:
        """Return how many percent of the stack's pixels are no brighter than `value`."""
        found = int(np.searchsorted(self.values, value, side="right")) - 1
        return 100 * float(self.below[found]) if found >= 0 else 0.0

    def moments(self, black: float, white: float) -> tuple[float, float]:
        """Return mean and standard deviation, of 1, of the crops' pixels between these levels."""
        # Sums and no dot products: a BLAS would start threads for each, which on a busy machine wait for each other.
        mapped = np.clip((self.crop_values - black) / (white - black), 0, 1)
        mean = float((self.share * mapped).sum())
        return mean, float(np.sqrt(max(float((self.share * mapped**2).sum()) - mean**2, 0.0)))

    def white_for(self, black: float) -> float:
        """Return the white level at which the crops' mean is the training data's, by halving; it falls as white rises."""
        span = float(self.values[-1]) - float(self.values[0])
        low, high = black + 1e-6 * span, black + 20 * span
        for _ in range(60):
            middle = (low * high) ** 0.5 if low > 0 else (low + high) / 2
            if self.moments(black, middle)[0] > PIXEL_MEAN:
                low = middle
            else:
                high = middle
        return high

    def levels(
        self,
        black: float | None = None,
        white: float | None = None,
        percentiles: tuple[float, float] | None = None,
    ) -> Levels:
        """Return the levels that the user gives, or those of the rule FITTED.

        Raises:
            UserError: the levels given leave no room between them.
        """
        if percentiles is not None:
            rule = f"given: percentiles {percentiles[0]:g} and {percentiles[1]:g} of the stack's pixels"
            return self._checked(self.at(percentiles[0]), self.at(percentiles[1]), rule, "--percentiles")
        if black is not None and white is not None:
            return self._checked(black, white, "given: black and white", "--black and --white")
        if white is not None:
            return self._checked(
                self.at(BLACKS[0]), white, f"white given; black is percentile {BLACKS[0]:g}", "--white"
            )
        tried = [self.at(percentile) for percentile in BLACKS] if black is None else [black]
        fits = [(level, self.white_for(level)) for level in dict.fromkeys(tried)]
        best = min(fits, key=lambda fit: abs(self.moments(*fit)[1] - PIXEL_STD))
        rule = FITTED if black is None else f"black given; white is where the crops' pixel mean is {PIXEL_MEAN:.3f}"
        return self._checked(*best, rule, "--black")

    def _checked(self, black: float, white: float, rule: str, flag: str) -> Levels:
        if not (np.isfinite([black, white]).all() and white > black):
            raise UserError(f"{flag} make black {black:g} and white {white:g}, but white must be the brighter one.")
        return Levels(black, white, rule, self.percentile(black), self.percentile(white))
