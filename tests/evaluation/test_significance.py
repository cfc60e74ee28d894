"""Comparing two models on the same images: McNemar's exact test, the paired bootstrap and Holm's correction."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nephros.evaluation.significance import compare_paired, holm


def _correct(both: int, first_only: int, second_only: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, first_only, second_only, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_p_value_is_twice_the_binomial_tail() -> None:
    # McNemar's exact test by hand: of 10 images that only one model classified correctly, 9 or more belong to one of them.
    comparison = compare_paired(*_correct(50, 9, 1, 40))
    tail = sum(math.comb(10, k) for k in (9, 10)) / 2**10
    assert comparison.p_value == pytest.approx(2 * tail)
    assert comparison.difference == pytest.approx(0.08)
    assert (comparison.n_first_only, comparison.n_second_only, comparison.n) == (9, 1, 100)


def test_models_that_agree_on_all_images_may_differ_on_others() -> None:
    for n, expected in ((20, 0.136), (100, 0.029), (37_280, 8e-5)):
        comparison = compare_paired(*_correct(n, 0, 0, 0))
        assert (comparison.p_value, comparison.difference) == (1.0, 0.0)
        assert comparison.high == -comparison.low == pytest.approx(expected, rel=0.05)
    assert compare_paired(*_correct(0, 20, 0, 0)).high == 1


@pytest.mark.parametrize(
    ("n_first_only", "n_second_only", "low", "high"), [(1171, 1000, 0.22, 0.70), (2311, 1206, 2.65, 3.28)]
)
def test_intervals_on_many_images_are_those_of_results_compare(
    n_first_only: int, n_second_only: int, low: float, high: float
) -> None:
    n_both = 37_280 - n_first_only - n_second_only
    comparison = compare_paired(*_correct(n_both, n_first_only, n_second_only, 0))
    assert (100 * comparison.low, 100 * comparison.high) == pytest.approx((low, high), abs=0.011)


@pytest.mark.parametrize(("n", "first_only", "second_only"), [(20, 0.02, 0.02), (20, 0.1, 0.0), (40, 0.1, 0.05)])
def test_intervals_of_few_images_hold_the_true_difference(n: int, first_only: float, second_only: float) -> None:
    rng, n_held, difference = np.random.default_rng(5), 0, first_only - second_only
    shares = [1 - first_only - second_only, first_only, second_only, 0]
    for counts in rng.multinomial(n, shares, size=200):
        comparison = compare_paired(*_correct(*counts.tolist()))
        n_held += comparison.low - 1e-9 <= difference <= comparison.high + 1e-9
    assert n_held >= 0.93 * 200


def test_interval_agrees_with_resampling_images() -> None:
    first, second = _correct(600, 90, 60, 250)
    comparison = compare_paired(first, second)
    rng = np.random.default_rng(7)
    differences = first.astype(float) - second
    resampled = [differences[rng.integers(0, 1000, 1000)].mean() for _ in range(4000)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    assert comparison.low == pytest.approx(low, abs=0.002)
    assert comparison.high == pytest.approx(high, abs=0.002)
    assert comparison.low < comparison.difference < comparison.high


def test_p_values_are_corrected_by_holm() -> None:
    comparisons = [
        compare_paired(*_correct(50, 9, 1, 40)),
        compare_paired(*_correct(50, 12, 0, 40)),
        compare_paired(*_correct(50, 3, 2, 40)),
    ]
    raw, adjusted = (
        [comparison.p_value for comparison in comparisons],
        [comparison.p_holm for comparison in holm(comparisons)],
    )
    assert adjusted[1] == pytest.approx(3 * raw[1])
    assert adjusted[0] == pytest.approx(2 * raw[0])
    assert adjusted[2] == pytest.approx(raw[2]) == 1.0
    assert holm(comparisons[:1])[0].p_holm == raw[0]
