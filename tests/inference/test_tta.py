"""Test-time augmentation around an exported network: the same views and means as within one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nephros.data.images.tta_views import view_parameters
from nephros.exporters.inference_module import InferenceModule, fit_feature_distance
from nephros.exporters.packaging import run_module
from nephros.inference.predictor import Predictor
from nephros.inference.tta import apply_view, tta_card, tta_forward_fn, undo_view
from nephros.models import build_network
from nephros.models.classifier import Classifier, InputSpec
from nephros.models.tta import make_tta_views
from nephros.recipe import TTA_VIEW_COUNTS, ModelConfig

CELLS = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)


@pytest.mark.parametrize("count", TTA_VIEW_COUNTS)
def test_views_of_arrays_are_those_of_tensors(count: int) -> None:
    tensors = torch.from_numpy(CELLS)[:, None]
    colored = np.stack([CELLS, 255 - CELLS, CELLS // 2], axis=-1)
    for view, parameters in zip(make_tta_views(count), view_parameters(count), strict=True):
        expected = view.apply(tensors).numpy()
        np.testing.assert_array_equal(apply_view(parameters, CELLS), expected[:, 0])
        np.testing.assert_array_equal(apply_view(parameters, colored)[..., 0], expected[:, 0])
        np.testing.assert_array_equal(undo_view(parameters, expected), view.invert(torch.from_numpy(expected)).numpy())


def test_an_oblong_cell_is_shifted_within_its_frame() -> None:
    cell = np.arange(1, 13, dtype=np.uint8).reshape(1, 3, 4)
    _, right, left, down, up = (apply_view(view, cell)[0].tolist() for view in view_parameters(5))
    assert right == [[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11]]
    assert left == [[2, 3, 4, 0], [6, 7, 8, 0], [10, 11, 12, 0]]
    assert down == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert up == [[5, 6, 7, 8], [9, 10, 11, 12], [0, 0, 0, 0]]


@pytest.mark.parametrize("count", TTA_VIEW_COUNTS[1:])
def test_means_around_a_network_are_those_within_it(count: int) -> None:
    torch.manual_seed(0)
    network = build_network(ModelConfig("compact", base_channels=8), InputSpec(1, 28, 28, 3))
    classifier = Classifier(network, [0.4], [0.2]).eval()
    inside = InferenceModule(classifier, count, temperature=0.8)
    alone = InferenceModule(classifier, 1, temperature=1.7)
    features = torch.randn(30, alone.head.in_features)
    for module in (inside, alone):
        module.set_distance_parameters(fit_feature_distance(features, torch.arange(30) % 3, 3))
    actual = tta_forward_fn(lambda cells: run_module(alone, cells), count, 1.7, 0.8)(CELLS)
    expected = run_module(inside, CELLS)
    for name in ("probabilities", "features", "class_activation_maps"):
        np.testing.assert_allclose(actual[name], expected[name], atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(actual["feature_distance"], run_module(alone, CELLS)["feature_distance"], rtol=1e-5)


def test_a_probability_of_zero_stays_a_number() -> None:
    certain: NDArray[Any] = np.array([[1, 0, 0]], dtype=np.float32)
    outputs = tta_forward_fn(lambda _: {"probabilities": certain}, 5, 0.05, 20.0)(CELLS[:1])
    assert np.isfinite(outputs["probabilities"]).all()
    assert outputs["probabilities"].argmax() == 0


def test_a_predictor_has_the_card_of_its_views(predictor: Predictor) -> None:
    with_tta = predictor.with_tta()
    assert with_tta is predictor.with_tta()
    assert with_tta.with_tta() is with_tta
    reading = predictor.card["tta"]
    assert reading is not None
    assert (predictor.card["network"]["tta_views"], with_tta.card["network"]["tta_views"]) == (1, 5)
    assert with_tta.card["calibration"] == reading["calibration"] != predictor.card["calibration"]
    assert with_tta.predict_batch(CELLS).ood_reasons == predictor.predict_batch(CELLS).ood_reasons
    assert with_tta.predict(CELLS).model.tta_views == predictor.predict(CELLS, tta=True).model.tta_views == 5
    probabilities = with_tta.predict_proba(CELLS)
    np.testing.assert_array_equal(predictor.predict_proba(CELLS, tta=True), probabilities)
    assert np.abs(predictor.predict_proba(CELLS) - probabilities).max() > 1e-6
    np.testing.assert_array_equal(predictor.embed(CELLS, tta=True), with_tta.embed(CELLS))


def test_a_card_of_earlier_versions_keeps_the_reading_of_one_view(predictor: Predictor) -> None:
    earlier: Any = {key: value for key, value in predictor.card.items() if key != "tta"}
    card = tta_card(earlier)
    assert card["network"]["tta_views"] == 5
    assert card["calibration"] == predictor.card["calibration"]
