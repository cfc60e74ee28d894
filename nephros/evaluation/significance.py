"""Two models on the same images: which is better, and might it be chance?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000


@dataclass(frozen=True)
class Pair:
    """The first model against the second, on n images that both answered."""

    n: int
    only_first: int
    """Images that the first alone called rightly."""
    only_second: int
    p: float
    """Two-sided p of McNemar's exact test: how often chance would part the two as far, were they equally good."""
    low: float
    high: float
    """95 % interval of the difference in accuracy, by paired bootstrap."""
    adjusted: float
    """p once corrected for the number of pairs that were tested together; of one pair p itself."""

    @property
    def difference(self) -> float:
        """Accuracy of the first less that of the second."""
        return (self.only_first - self.only_second) / self.n


def pair(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Pair:
    """Return how two models differ, from which of the same images each called rightly, (n,) bool both.

    McNemar's test in its exact form is the binomial test on the images that one alone called rightly (McNemar,
    Psychometrika 12, 1947). The bootstrap draws images again, 10,000 times with a fixed seed; as the difference depends
    only on how many images each alone called rightly, drawing images is drawing those two counts (multinomial).
    """
    from scipy.stats import binomtest

    n = len(first)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    apart = only_first + only_second
    p = float(binomtest(only_first, apart).pvalue) if apart else 1.0
    shares = [only_first / n, only_second / n, (n - apart) / n]
    drawn = np.random.default_rng(0).multinomial(n, shares, size=DRAWS)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [0.025, 0.975])
    return Pair(n, only_first, only_second, p, float(low), float(high), p)


def holm(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs with p adjusted for being tested together (Holm, Scand. J. Statistics 6, 1979), in their order."""
    adjusted, least = list(pairs), 0.0
    for rank, place in enumerate(sorted(range(len(pairs)), key=lambda place: pairs[place].p)):
        least = min(1.0, max(least, (len(pairs) - rank) * pairs[place].p))
        adjusted[place] = replace(pairs[place], adjusted=least)
    return adjusted
