"""Temperature scaling recovers by how much a network was over- or underconfident."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from nephros.evaluation.calibration import UNCALIBRATED, apply_temperature, fit_temperature
from nephros.evaluation.metrics import calibration_curve, expected_calibration_error, mean_cross_entropy


def miscalibrated(temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 4) probabilities that `temperature` calibrates, and labels (n,) drawn from the calibrated ones."""
    generator = np.random.default_rng(0)
    logits = 2 * generator.standard_normal((20_000, 4))
    calibrated = apply_temperature(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 1.0)
    labels = (generator.random((len(calibrated), 1)) > calibrated.cumsum(axis=1)).sum(axis=1).clip(max=3)
    return apply_temperature(calibrated, 1 / temperature), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_fitted_temperature_calibrates(temperature: float, caplog: pytest.LogCaptureFixture) -> None:
    probabilities, labels = miscalibrated(temperature)
    fitted = fit_temperature(probabilities, labels)
    assert fitted == pytest.approx(temperature, rel=0.03)
    calibrated = apply_temperature(probabilities, fitted)
    assert expected_calibration_error(calibration_curve(calibrated, labels)) < 0.015
    for factor in (0.98, 1.02):
        neighbor = apply_temperature(probabilities, fitted * factor)
        assert mean_cross_entropy(calibrated, labels) < mean_cross_entropy(neighbor, labels)
    assert not caplog.records


@pytest.mark.parametrize("all_correct", [True, False])
def test_a_temperature_at_its_bound_is_reported_and_not_kept(
    all_correct: bool, caplog: pytest.LogCaptureFixture
) -> None:
    probabilities = np.tile([0.6, 0.4], (100, 1))
    labels = np.full(100, 0 if all_correct else 1)
    with caplog.at_level(logging.WARNING, "nephros"):
        assert fit_temperature(probabilities, labels) == UNCALIBRATED
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_scaling_keeps_the_order_and_the_sum() -> None:
    probabilities, _ = miscalibrated(2.0)
    smoothed = apply_temperature(probabilities, 7.0)
    assert np.allclose(smoothed.sum(axis=1), 1)
    assert (smoothed.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert np.allclose(apply_temperature(probabilities, 1.0), probabilities)
    assert np.isfinite(apply_temperature(np.array([[1.0, 0.0]]), 0.05)).all()
