"""Prediction sets reach their target coverage, with the smallest sets, at every level."""

from __future__ import annotations

import numpy as np
import pytest

from nephros.errors import InvalidArgument
from nephros.evaluation.calibration import N_LEVELS, conformal_quantiles, coverage_report, prediction_sets


def calibrated_sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 4) probabilities, and labels (n,) drawn from them."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.array([2.0, 1.0, 0.5, 0.5]), n)
    labels = (generator.random((n, 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(max=3)
    return probabilities, labels


def test_quantiles_are_the_order_statistics_of_the_paper() -> None:
    true_class = np.array([0.9, 0.5, 0.7, 0.2])
    probabilities = np.stack([true_class, 1 - true_class], axis=1)
    quantiles = conformal_quantiles(probabilities, np.zeros(4, dtype=np.int64))
    assert len(quantiles) == N_LEVELS
    # n = 4: the ceil(5 c)-th smallest of .1 .3 .5 .8
    for coverage, expected in {0.2: 0.1, 0.201: 0.3, 0.6: 0.5, 0.8: 0.8, 0.801: 1.0, 1.0: 1.0}.items():
        assert quantiles[round(coverage * 1000)] == pytest.approx(expected)
    assert quantiles[0] < 0


@pytest.mark.parametrize("coverage", [0.3, 0.5, 0.8, 0.9, 0.95, 0.99])
def test_other_cells_reach_the_target_coverage(coverage: float) -> None:
    quantiles = conformal_quantiles(*calibrated_sample(20_000, 0))
    probabilities, labels = calibrated_sample(50_000, 1)
    report = coverage_report(probabilities, labels, quantiles, coverage)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    assert report["coverage"] > coverage - 0.01
    assert report["coverage"] < max(coverage, accuracy) + 0.01
    assert 1 <= report["mean_set_size"] <= 4
    assert report["n_images"] == 50_000


def test_sets_grow_with_coverage_and_are_never_empty() -> None:
    quantiles = conformal_quantiles(*calibrated_sample(2000, 0))
    probabilities, _ = calibrated_sample(500, 1)
    smaller_sets = np.zeros((500, 4), dtype=bool)
    for coverage in (0.001, 0.3, 0.6, 0.9005, 0.99, 1.0):
        sets = prediction_sets(probabilities, quantiles, coverage)
        assert (sets >= smaller_sets).all()
        assert sets[np.arange(500), probabilities.argmax(axis=1)].all()
        smaller_sets = sets
    assert smaller_sets.all()
    between_levels = prediction_sets(probabilities, quantiles, 0.9005)
    assert np.array_equal(between_levels, prediction_sets(probabilities, quantiles, 0.901))
    assert prediction_sets(probabilities[:0], quantiles, 0.9).shape == (0, 4)


@pytest.mark.parametrize("coverage", [0.0, -1.0, 1.1, 90.0, float("nan")])
def test_coverage_out_of_range_is_refused(coverage: float) -> None:
    with pytest.raises(InvalidArgument) as caught:
        prediction_sets(np.ones((1, 2)), np.ones(N_LEVELS), coverage)
    assert caught.value.parameter == "coverage"
