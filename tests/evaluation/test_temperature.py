"""Temperature scaling finds by how much a network was too sure."""

from __future__ import annotations

import numpy as np
import pytest

from nephros.evaluation.metrics import calibration_curve, expected_calibration_error, mean_cross_entropy
from nephros.evaluation.temperature import apply_temperature, fit_temperature


def overconfident(true_temperature: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    logits = 2 * generator.standard_normal((20_000, 4))
    honest = apply_temperature(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 1.0)
    labels = (generator.random((len(honest), 1)) > honest.cumsum(axis=1)).sum(axis=1).clip(max=3)
    return apply_temperature(honest, 1 / true_temperature), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_found_and_calibrates(temperature: float) -> None:
    probabilities, labels = overconfident(temperature)
    found = fit_temperature(probabilities, labels)
    assert found == pytest.approx(temperature, rel=0.03)
    after = apply_temperature(probabilities, found)
    assert expected_calibration_error(calibration_curve(after, labels)) < 0.015
    for beside in (0.98, 1.02):
        assert mean_cross_entropy(after, labels) < mean_cross_entropy(
            apply_temperature(probabilities, found * beside), labels
        )


def test_scaling_keeps_the_order_and_the_sum() -> None:
    probabilities, _ = overconfident(2.0)
    hot = apply_temperature(probabilities, 7.0)
    assert np.allclose(hot.sum(axis=1), 1)
    assert (hot.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert np.allclose(apply_temperature(probabilities, 1.0), probabilities)
    assert np.isfinite(apply_temperature(np.array([[1.0, 0.0]]), 0.05)).all()
