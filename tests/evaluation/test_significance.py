"""Two models on the same images: McNemar's exact test and the paired bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nephros.evaluation.significance import holm, pair


def _answers(both: int, only_first: int, only_second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, only_first, only_second, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_p_is_twice_the_binomial_tail() -> None:
    # McNemar's exact test by hand: of 10 images that one alone had right, 9 or more went to one of them.
    found = pair(*_answers(50, 9, 1, 40))
    tail = sum(math.comb(10, k) for k in (9, 10)) / 2**10
    assert found.p == pytest.approx(2 * tail)
    assert found.difference == pytest.approx(0.08)
    assert (found.only_first, found.only_second, found.n) == (9, 1, 100)


def test_models_that_agree_are_not_apart() -> None:
    found = pair(*_answers(60, 0, 0, 40))
    assert (found.p, found.difference, found.low, found.high) == (1.0, 0.0, 0.0, 0.0)


def test_the_interval_is_that_of_drawing_images_again() -> None:
    first, second = _answers(600, 90, 60, 250)
    found = pair(first, second)
    rng = np.random.default_rng(7)
    differences = first.astype(float) - second
    drawn = [differences[rng.integers(0, 1000, 1000)].mean() for _ in range(4000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.002)
    assert found.high == pytest.approx(high, abs=0.002)
    assert found.low < found.difference < found.high


def test_p_values_tested_together_are_holm_s() -> None:
    pairs = [pair(*_answers(50, 9, 1, 40)), pair(*_answers(50, 12, 0, 40)), pair(*_answers(50, 3, 2, 40))]
    raw, adjusted = [one.p for one in pairs], [one.adjusted for one in holm(pairs)]
    assert adjusted[1] == pytest.approx(3 * raw[1])
    assert adjusted[0] == pytest.approx(2 * raw[0])
    assert adjusted[2] == pytest.approx(raw[2]) == 1.0
    assert holm(pairs[:1])[0].adjusted == raw[0]
