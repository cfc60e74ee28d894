"""Prediction sets: the coverage that was asked, from the smallest sets, at every level."""

from __future__ import annotations

import numpy as np
import pytest

from nephros.errors import NephrosError
from nephros.evaluation.conformal import N_LEVELS, conformal_quantiles, coverage_report, prediction_sets


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities that are true of the labels, which were drawn from them."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.array([2.0, 1.0, 0.5, 0.5]), n)
    labels = (generator.random((n, 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(max=3)
    return probabilities, labels


def test_thresholds_are_the_papers_order_statistics() -> None:
    right = np.array([0.9, 0.5, 0.7, 0.2])
    probabilities = np.stack([right, 1 - right], axis=1)
    table = conformal_quantiles(probabilities, np.zeros(4, dtype=np.int64))
    assert len(table) == N_LEVELS
    # n = 4: the ceil(5 c)-th smallest of .1 .3 .5 .8
    for coverage, expected in {0.2: 0.1, 0.201: 0.3, 0.6: 0.5, 0.8: 0.8, 0.801: 1.0, 1.0: 1.0}.items():
        assert table[round(coverage * 1000)] == pytest.approx(expected)
    assert table[0] < 0


@pytest.mark.parametrize("coverage", [0.3, 0.5, 0.8, 0.9, 0.95, 0.99])
def test_other_cells_are_covered_as_often_as_asked(coverage: float) -> None:
    table = conformal_quantiles(*drawn(20_000, 0))
    found = coverage_report(*drawn(50_000, 1), table, coverage)
    most_probable = float((drawn(50_000, 1)[0].argmax(axis=1) == drawn(50_000, 1)[1]).mean())
    assert found["coverage"] > coverage - 0.01
    assert found["coverage"] < max(coverage, most_probable) + 0.01
    assert 1 <= found["mean_set_size"] <= 4
    assert found["n_images"] == 50_000


def test_sets_grow_with_coverage_and_are_never_empty() -> None:
    table = conformal_quantiles(*drawn(2000, 0))
    probabilities, _ = drawn(500, 1)
    before = np.zeros((500, 4), dtype=bool)
    for coverage in (0.001, 0.3, 0.6, 0.9005, 0.99, 1.0):
        sets = prediction_sets(probabilities, table, coverage)
        assert (sets >= before).all()
        assert sets[np.arange(500), probabilities.argmax(axis=1)].all()
        before = sets
    assert before.all()
    assert np.array_equal(prediction_sets(probabilities, table, 0.9005), prediction_sets(probabilities, table, 0.901))
    assert prediction_sets(probabilities[:0], table, 0.9).shape == (0, 4)


@pytest.mark.parametrize("coverage", [0.0, -1.0, 1.1, 90.0, float("nan")])
def test_coverage_out_of_range_is_refused(coverage: float) -> None:
    with pytest.raises(NephrosError, match="--coverage"):
        prediction_sets(np.ones((1, 2)), np.ones(N_LEVELS), coverage)
