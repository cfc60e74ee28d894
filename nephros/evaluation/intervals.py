"""95% confidence intervals of an accuracy: of images that are independent, and of images in groups, such as patients or stacks.

Images of one stack are alike. How accurate a model is on another stack, four stacks of 1,500 nuclei tell little better than
four numbers would, so that the interval is to count stacks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.text_tables import join_words

INTERVAL_METHOD = "Wilson score, 95%"
Z95 = 1.959963984540054
"""97.5% quantile of the standard normal distribution."""
_ASSUMED_CORRELATION = 0.1
"""Of whether two images of a group are right, where the groups can't tell."""
_MAX_LISTED_GROUPS = 10


@dataclass(frozen=True)
class AccuracyInterval:
    """Confidence interval of an accuracy."""

    low: float
    high: float
    level: float = 0.95
    method: str = INTERVAL_METHOD

    @property
    def counts_groups(self) -> bool:
        """Whether it counts groups rather than images."""
        return "groups" in self.method


@dataclass(frozen=True)
class GroupAccuracy:
    """The accuracy on the images of one group."""

    name: str
    n: int
    """Images."""
    accuracy: float


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of the proportion successes / n (Wilson, JASA 22, 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def grouped_accuracy_interval(is_right: NDArray[np.bool_], groups: NDArray[np.str_]) -> AccuracyInterval:
    """Return the 95% interval of the accuracy on images of other groups, from images in at least two groups.

    The accuracy is a ratio estimated from clusters, here G groups with r of n images right, whose variance is G / (G - 1) times
    the sum of (r - accuracy n)^2, divided by the squared number of images (Cochran, Sampling Techniques, 1977). The interval is
    Wilson's for as many independent images as would have that variance, with the quantile of Student's t for G - 1 degrees of
    freedom (Kott, Survey Methodology 43, 2017), and no narrower than Wilson's for all images, since few groups may be alike by
    chance. Where all or none are right, nothing tells how much groups differ: a correlation of 0.1 within them is assumed.

    Args:
        is_right: (n,), whether each image was classified correctly.
        groups: (n,), the group of each.
    """
    from scipy.stats import t

    rows, n = accuracy_by_group(is_right, groups), len(is_right)
    n_groups, accuracy = len(rows), float(is_right.mean())
    binomial_variance = accuracy * (1 - accuracy)
    squares = sum((row.n * (row.accuracy - accuracy)) ** 2 for row in rows)
    variance = n_groups / (n_groups - 1) * squares / n**2
    low, high = _score_interval(accuracy, n, Z95)
    if binomial_variance == 0:
        low, high = _score_interval(accuracy, n / (1 + _ASSUMED_CORRELATION * (n / n_groups - 1)), Z95)
    elif variance > 0:
        quantile = float(t.ppf(0.975, n_groups - 1))
        grouped_low, grouped_high = _score_interval(accuracy, binomial_variance / variance, quantile)
        low, high = min(low, grouped_low), max(high, grouped_high)
    method = f"Wilson score with the design effect and the t quantile of {n_groups} groups, 95%"
    return AccuracyInterval(max(0.0, min(low, accuracy)), min(1.0, max(high, accuracy)), method=method)


def _score_interval(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Return Wilson's score interval of a share of n, which need not be whole, with any quantile."""
    weight = quantile**2 / n
    center = (share + weight / 2) / (1 + weight)
    half_width = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return center - half_width, center + half_width


def accuracy_by_group(is_right: NDArray[np.bool_], groups: NDArray[np.str_]) -> list[GroupAccuracy]:
    """Return the accuracy on each group, the lowest first."""
    names, indices = np.unique(groups, return_inverse=True)
    counts = np.bincount(indices)
    n_right = np.bincount(indices, weights=is_right)
    rows = [
        GroupAccuracy(str(name), int(n), float(right / n))
        for name, n, right in zip(names, counts, n_right, strict=True)
    ]
    return sorted(rows, key=lambda row: row.accuracy)


def describe_groups(rows: list[GroupAccuracy]) -> str:
    """Return such as ``0.70 in K7, 0.80 in K6 and 0.95 in K4``; of many groups, the two ends alone."""
    if len(rows) > _MAX_LISTED_GROUPS:
        return f"{rows[0].accuracy:.2f} in {rows[0].name} to {rows[-1].accuracy:.2f} in {rows[-1].name}"
    return join_words([f"{row.accuracy:.2f} in {row.name}" for row in rows])
