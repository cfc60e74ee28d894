"""Comparing two models on the same images: McNemar's exact test and a paired bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_RESAMPLES = 10_000


@dataclass(frozen=True)
class PairedComparison:
    """How the first of two models compares with the second on the same n images."""

    n: int
    n_first_only: int
    """Images that only the first classified correctly."""
    n_second_only: int
    """Images that only the second classified correctly."""
    p_value: float
    """Two-sided p of McNemar's exact test, under the hypothesis that both are equally accurate."""
    low: float
    high: float
    """95 % interval of the difference in accuracy, by paired bootstrap."""
    p_holm: float
    """p corrected for the number of pairs tested together (Holm); for a single pair p itself."""

    @property
    def difference(self) -> float:
        """Accuracy of the first minus that of the second."""
        return (self.n_first_only - self.n_second_only) / self.n


def compare_paired(first_correct: NDArray[np.bool_], second_correct: NDArray[np.bool_]) -> PairedComparison:
    """Return how two models compare, from which of the same images each classified correctly, (n,) bool both.

    McNemar's test in its exact form is the binomial test on the images that only one model classified correctly (McNemar,
    Psychometrika 12, 1947). The bootstrap resamples images 10,000 times with a fixed seed. The difference depends only on
    how many images each model alone classified correctly, so resampling images is resampling those two counts.
    """
    from scipy.stats import binomtest

    n = len(first_correct)
    n_first_only = int((first_correct & ~second_correct).sum())
    n_second_only = int((second_correct & ~first_correct).sum())
    n_discordant = n_first_only + n_second_only
    p_value = float(binomtest(n_first_only, n_discordant).pvalue) if n_discordant else 1.0
    shares = [n_first_only / n, n_second_only / n, (n - n_discordant) / n]
    resampled = np.random.default_rng(0).multinomial(n, shares, size=BOOTSTRAP_RESAMPLES)
    low, high = np.quantile((resampled[:, 0] - resampled[:, 1]) / n, [0.025, 0.975])
    return PairedComparison(n, n_first_only, n_second_only, p_value, float(low), float(high), p_value)


def holm(comparisons: Sequence[PairedComparison]) -> list[PairedComparison]:
    """Return the comparisons, in their order, with p adjusted for multiple testing (Holm, Scand. J. Statistics 6, 1979)."""
    adjusted, running_max = list(comparisons), 0.0
    for rank, index in enumerate(sorted(range(len(comparisons)), key=lambda index: comparisons[index].p_value)):
        running_max = min(1.0, max(running_max, (len(comparisons) - rank) * comparisons[index].p_value))
        adjusted[index] = replace(comparisons[index], p_holm=running_max)
    return adjusted
