"""Two models on the same images: which is better, and might it be chance?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_RESAMPLES = 10_000


@dataclass(frozen=True)
class PairedComparison:
    """The first model against the second, on n images that both answered."""

    n: int
    n_first_only: int
    """Images that the first alone called rightly."""
    n_second_only: int
    p_value: float
    """Two-sided p of McNemar's exact test: how often chance would part the two as far, were they equally good."""
    low: float
    high: float
    """95 % interval of the difference in accuracy, by paired bootstrap."""
    p_holm: float
    """p once corrected for the number of pairs that were tested together; of one pair p itself."""

    @property
    def difference(self) -> float:
        """Accuracy of the first less that of the second."""
        return (self.n_first_only - self.n_second_only) / self.n


def compare_paired(first_correct: NDArray[np.bool_], second_correct: NDArray[np.bool_]) -> PairedComparison:
    """Return how two models differ, from which of the same images each called rightly, (n,) bool both.

    McNemar's test in its exact form is the binomial test on the images that one alone called rightly (McNemar,
    Psychometrika 12, 1947). The bootstrap draws images again, 10,000 times with a fixed seed; as the difference depends
    only on how many images each alone called rightly, drawing images is drawing those two counts (multinomial).
    """
    from scipy.stats import binomtest

    n = len(first_correct)
    n_first_only, n_second_only = (
        int((first_correct & ~second_correct).sum()),
        int((second_correct & ~first_correct).sum()),
    )
    n_discordant = n_first_only + n_second_only
    p_value = float(binomtest(n_first_only, n_discordant).pvalue) if n_discordant else 1.0
    shares = [n_first_only / n, n_second_only / n, (n - n_discordant) / n]
    resampled = np.random.default_rng(0).multinomial(n, shares, size=BOOTSTRAP_RESAMPLES)
    low, high = np.quantile((resampled[:, 0] - resampled[:, 1]) / n, [0.025, 0.975])
    return PairedComparison(n, n_first_only, n_second_only, p_value, float(low), float(high), p_value)


def holm(comparisons: Sequence[PairedComparison]) -> list[PairedComparison]:
    """Return the pairs with p adjusted for being tested together (Holm, Scand. J. Statistics 6, 1979), in their order."""
    adjusted, running_max = list(comparisons), 0.0
    for rank, index in enumerate(sorted(range(len(comparisons)), key=lambda index: comparisons[index].p_value)):
        running_max = min(1.0, max(running_max, (len(comparisons) - rank) * comparisons[index].p_value))
        adjusted[index] = replace(comparisons[index], p_holm=running_max)
    return adjusted
