"""Limits of what is in distribution that few cells set: further cells like them are within, other images are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nephros.data.synthetic import make_synthetic
from nephros.exporters.inference_module import fit_feature_distance
from nephros.exporters.ood_limits import (
    FEW_CELLS,
    cross_fitted_feature_distances,
    cross_fitted_structure_distances,
    few_cell_ranges,
    shrinkage_ridge,
    upper_limit,
)
from nephros.inference.ood.detector import fit_statistic_ranges, fit_structure, structure_distances


@pytest.mark.parametrize("n", [3, 16, 100])
def test_few_values_set_a_limit_that_further_ones_seldom_pass(n: int) -> None:
    rng = np.random.default_rng(n)
    passed = [float((rng.lognormal(size=500) > upper_limit(rng.lognormal(size=n), 99)).mean()) for _ in range(200)]
    assert 0.002 < np.mean(passed) < 0.02
    largest = [float((rng.lognormal(size=500) > rng.lognormal(size=n).max()).mean()) for _ in range(200)]
    assert np.mean(largest) > np.mean(passed) or n >= 100


def test_many_values_set_their_percentile() -> None:
    values = np.random.default_rng(0).lognormal(size=FEW_CELLS)
    assert upper_limit(values, 99.9) == np.percentile(values, 99.9)
    assert upper_limit(np.array([2.0]), 99.9) == 2
    assert upper_limit(np.zeros(5), 99.9) == pytest.approx(0, abs=1e-6)


def test_ranges_of_few_cells_include_their_own() -> None:
    cells = make_synthetic(300, 10, 10).train.images
    narrow, wide = fit_statistic_ranges(cells[:14]), few_cell_ranges(cells[:14])
    for name, bounds in narrow.items():
        assert wide[name]["low"] <= bounds["low"] <= bounds["high"] <= wide[name]["high"]
    constant = few_cell_ranges(np.full((4, 28, 28), 7, np.uint8))
    assert constant["brightness"]["low"] <= 7 <= constant["brightness"]["high"] < 8


def test_distances_of_further_cells_are_as_those_in_cross_fitting() -> None:
    rng = np.random.default_rng(0)
    labels = torch.arange(40) % 3
    centers = torch.from_numpy(rng.normal(size=(3, 24)) * 4)
    features = (centers[labels] + torch.from_numpy(rng.normal(size=(40, 24)))).float()
    ridge = shrinkage_ridge(features, labels, 3)
    assert ridge > 1e-3
    parameters = fit_feature_distance(features, labels, 3, ridge)

    def distances(x: torch.Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        whitened = (x - parameters["feature_mean"]) @ parameters["whitening"]
        return torch.cdist(whitened, parameters["class_means"]).amin(dim=1).double().numpy()

    cross_fitted = cross_fitted_feature_distances(features, labels, 3, ridge)
    new = (centers[torch.arange(300) % 3] + torch.from_numpy(rng.normal(size=(300, 24)))).float()
    assert np.median(distances(features)) < 0.9 * np.median(distances(new))
    assert np.median(cross_fitted) == pytest.approx(np.median(distances(new)), rel=0.25)
    assert (distances(new) > upper_limit(cross_fitted, 99.9)).mean() < 0.02
    assert (distances(5 * new) > upper_limit(cross_fitted, 99.9)).mean() > 0.9


@pytest.mark.parametrize("n", [2, 14, 60])
def test_structure_of_few_cells_lets_others_in_and_noise_not(n: int) -> None:
    dataset = make_synthetic(360, 10, 10)
    cells, labels, new = dataset.train.images[:n], dataset.train.labels[:n], dataset.train.images[60:]
    limit = upper_limit(cross_fitted_structure_distances(cells, labels), 99.5)
    structure = fit_structure(cells)
    assert (structure_distances(structure, new) > limit).mean() < (0.05 if n > 2 else 1)
    noise = np.random.default_rng(0).integers(0, 256, (20, 28, 28)).astype(np.uint8)
    if n == 60:
        assert (structure_distances(structure, noise) > limit).all()
