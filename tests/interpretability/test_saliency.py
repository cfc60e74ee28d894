"""Saliency maps point at the pixels that decide, for the class that they explain."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.inference.prediction_batch import PredictionBatch
from nephros.inference.predictor import Predictor
from nephros.interpretability.saliency import saliency_maps
from tests.conftest import square_images

CELLS = square_images(6, 4, 3)[0]


def test_class_activation_explains_the_given_class(predictor: Predictor) -> None:
    predictions = predictor.predict_batch(CELLS)
    labels = predictions.probabilities.argmax(axis=1)
    saliency = saliency_maps(CELLS, predictions, labels, predictor.predict_batch)
    assert saliency.method == "class activation"
    assert saliency.values.shape == CELLS.shape
    assert predictions.class_activation_maps is not None
    for values, maps, label in zip(saliency.values, predictions.class_activation_maps, labels, strict=True):
        peak = np.unravel_index(values.argmax(), values.shape)
        coarse_peak = np.unravel_index(maps[label].argmax(), maps[label].shape)
        scale = values.shape[0] / maps.shape[1]
        assert abs(peak[0] / scale - coarse_peak[0] - 0.5) <= 1
        assert abs(peak[1] / scale - coarse_peak[1] - 0.5) <= 1
        assert values.max() == pytest.approx(1)
    other = saliency_maps(CELLS, predictions, (labels + 1) % 4, predictor.predict_batch)
    assert not np.allclose(other.values, saliency.values)


def test_a_map_without_evidence_for_the_class_is_zero() -> None:
    p, maps = np.full((1, 2), 0.5, dtype=np.float32), np.full((1, 2, 3, 3), -1, dtype=np.float32)
    predictions = PredictionBatch(p, None, maps, np.zeros(1, dtype=np.bool_), ((),))
    saliency = saliency_maps(CELLS[:1], predictions, np.array([0]), lambda cells: predictions)
    assert (saliency.values == 0).all()


@pytest.mark.parametrize("is_color", [False, True])
def test_occlusion_finds_the_only_spot_that_decides(is_color: bool) -> None:
    def predict_by_spot(cells: NDArray[np.uint8]) -> PredictionBatch:
        has_spot = cells[:, 20:24, 4:8].reshape(len(cells), -1).max(axis=1) > 200
        p = np.stack([1 - 0.8 * has_spot, 0.8 * has_spot], axis=1).astype(np.float32)
        return PredictionBatch(p, None, None, np.zeros(len(cells), dtype=np.bool_), ((),) * len(cells))

    cells = np.full((1, 28, 28, 3) if is_color else (1, 28, 28), 40, dtype=np.uint8)
    cells[0, 20:24, 4:8] = 250
    saliency = saliency_maps(cells, predict_by_spot(cells), np.array([1]), predict_by_spot)
    assert saliency.method == "occlusion"
    row, column = np.unravel_index(saliency.values[0].argmax(), (28, 28))
    assert 18 <= row <= 26
    assert 2 <= column <= 10
    assert saliency.values[0, :8, 16:].max() < 0.1
