"""Intervals of an accuracy: of independent images, and of images in groups, which hold for other groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nephros.evaluation.intervals import (
    INTERVAL_METHOD,
    accuracy_by_group,
    describe_groups,
    grouped_accuracy_interval,
    wilson_interval,
)
from nephros.evaluation.metrics import compute_metrics


def _images(sizes: list[int], n_right: list[int]) -> tuple[NDArray[np.bool_], NDArray[np.str_]]:
    """Return which images of groups K0, K1 and so on are right, and their groups."""
    is_right = [np.arange(size) < right for size, right in zip(sizes, n_right, strict=True)]
    return np.concatenate(is_right), np.repeat([f"K{i}" for i in range(len(sizes))], sizes)


def test_wilson_interval_agrees_with_published_values() -> None:
    # Newcombe, Statistics in Medicine 17, 1998, table I, method 3: 81/263 and 0/20.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_the_interval_of_four_stacks_is_that_of_the_formula_by_hand() -> None:
    # Wilson's of 5,025 right of 6,000 would be 0.828 to 0.847. By hand: variance 4/3 (0.1125^2 + 0.0625^2 + 0.0375^2 +
    # 0.1375^2) / 16 = 0.0030729, that of 44.288 images; 3.18245 is the quantile of Student's t with three degrees of freedom.
    is_right, groups = _images([1500] * 4, [1425, 1350, 1200, 1050])
    interval = grouped_accuracy_interval(is_right, groups)
    weight = 3.18245**2 / 44.288
    center = (0.8375 + weight / 2) / (1 + weight)
    half_width = (weight * (0.8375 * 0.1625 + weight / 4)) ** 0.5 / (1 + weight)
    assert (interval.low, interval.high) == pytest.approx((center - half_width, center + half_width), abs=1e-4)
    assert (interval.low, interval.high) == pytest.approx((0.604, 0.946), abs=1e-3)
    assert interval.counts_groups
    assert "4 groups" in interval.method
    ten_times = grouped_accuracy_interval(np.tile(is_right, 10), np.tile(groups, 10))
    assert (ten_times.low, ten_times.high) == pytest.approx((interval.low, interval.high))


def test_groups_of_different_sizes_count_by_their_images() -> None:
    # 0.8 of 100; residuals -3, -1 and 4, variance 3/2 26 / 100^2, that of 41.026 images; quantile 4.30265.
    is_right, groups = _images([10, 20, 70], [5, 15, 60])
    interval = grouped_accuracy_interval(is_right, groups)
    weight = 4.30265**2 / 41.026
    half_width = (weight * (0.8 * 0.2 + weight / 4)) ** 0.5 / (1 + weight)
    assert interval.high - interval.low == pytest.approx(2 * half_width, abs=1e-5)
    assert accuracy_by_group(is_right, groups)[0].accuracy == 0.5
    assert describe_groups(accuracy_by_group(is_right, groups)) == "0.50 in K0, 0.75 in K1 and 0.86 in K2"


def test_many_groups_are_described_by_their_ends() -> None:
    rows = accuracy_by_group(*_images([10] * 12, [*range(12 - 1), 10]))
    assert describe_groups(rows) == "0.00 in K0 to 1.00 in K11"


@pytest.mark.parametrize(("n_groups", "size", "low"), [(4, 100, 0.905), (2, 1500, 0.838), (10, 1, 0.722)])
def test_groups_that_are_all_right_leave_a_width(n_groups: int, size: int, low: float) -> None:
    interval = grouped_accuracy_interval(*_images([size] * n_groups, [size] * n_groups))
    assert interval.high == 1
    assert interval.low == pytest.approx(low, abs=1e-3)  # m / (m + 1.96^2), m = n / (1 + 0.1 (size - 1))


@given(st.lists(st.tuples(st.integers(1, 60), st.floats(0, 1)), min_size=2, max_size=12))
def test_no_interval_is_narrower_than_that_of_independent_images(groups: list[tuple[int, float]]) -> None:
    is_right, names = _images([size for size, _ in groups], [int(size * share) for size, share in groups])
    interval = grouped_accuracy_interval(is_right, names)
    low, high = wilson_interval(int(is_right.sum()), len(is_right))
    assert 0 <= interval.low <= low + 1e-9
    assert high - 1e-9 <= interval.high <= 1


@pytest.mark.parametrize("n_groups", [2, 3, 4, 8, 20])
@pytest.mark.parametrize(("accuracy", "correlation"), [(0.6, 0.05), (0.85, 0.1), (0.95, 0.02)])
def test_the_interval_holds_the_accuracy_of_all_groups(n_groups: int, accuracy: float, correlation: float) -> None:
    rng, n_held, n_held_by_wilson = np.random.default_rng(n_groups), 0, 0
    spread = (1 - correlation) / correlation  # of the beta distribution that groups are drawn from
    for _ in range(300):
        sizes = rng.integers(50, 400, n_groups)
        n_right = rng.binomial(sizes, rng.beta(accuracy * spread, (1 - accuracy) * spread, n_groups))
        interval = grouped_accuracy_interval(*_images(sizes.tolist(), n_right.tolist()))
        n_held += interval.low <= accuracy <= interval.high
        low, high = wilson_interval(int(n_right.sum()), int(sizes.sum()))
        n_held_by_wilson += low <= accuracy <= high
    assert n_held >= 0.9 * 300
    assert n_held_by_wilson < 0.8 * 300


def test_metrics_of_images_in_groups_have_that_interval() -> None:
    is_right, groups = _images([100] * 4, [95, 90, 40, 30])
    labels = np.arange(400) % 2
    probabilities = np.eye(2)[np.where(is_right, labels, 1 - labels)]
    metrics = compute_metrics(probabilities, labels, ("a", "b"), groups)
    assert metrics.accuracy_interval == grouped_accuracy_interval(is_right, groups)
    assert metrics.accuracy_interval.low < 0.5  # of the larger class, above which independent images would lie
    by_image = compute_metrics(probabilities, labels, ("a", "b"))
    assert by_image.accuracy_interval.low > 0.5
    assert by_image.accuracy_interval.method == INTERVAL_METHOD
    assert type(metrics).from_dict(metrics.to_dict()) == metrics
