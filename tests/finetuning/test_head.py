"""The last layer as logistic regression: scikit-learn's predictions, as weights of the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nephros.evaluation.metrics import compute_metrics
from nephros.finetuning.baselines import cross_validate_neighbors, predict_largest_class
from nephros.finetuning.features import extract_features, with_channels, with_head
from nephros.finetuning.folds import make_folds
from nephros.finetuning.head import C_VALUES, choose_C, fit_head
from nephros.finetuning.label_review import class_recalls, learning_curve, suspicious_labels
from nephros.models import build_network
from nephros.models.classifier import Classifier, InputSpec
from nephros.models.tta import TTAClassifier
from nephros.recipe import ModelConfig
from tests.conftest import square_images

NAMES = ("a", "b", "c")


def _blobs(n: int, n_classes: int, seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 6) features, one of them constant, around a center per class, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centers = np.random.default_rng(9).normal(0, 2, (n_classes, 6))
    features = centers[labels] + rng.normal(0, noise, (n, 6))
    features[:, 3] = 7.0
    return features.astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_head_predicts_as_scikit_learn(n_classes: int) -> None:
    features, labels = _blobs(90, n_classes, noise=3)
    head = fit_head(features, labels, n_classes, C=0.5)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=1000)).fit(features, labels)
    np.testing.assert_allclose(head.predict(features[:, None]), reference.predict_proba(features), atol=1e-3)


def test_a_class_without_labels_is_never_predicted() -> None:
    features, labels = _blobs(60, 2)
    probabilities = fit_head(features, labels, 3, C=1.0).predict(features[:, None])
    assert probabilities[:, 2].max() < 1e-3
    only_one = fit_head(features[:5], np.ones(5, dtype=np.int64), 3, C=1.0).predict(features[:, None])
    assert (only_one.argmax(axis=1) == 1).all()


def test_noise_gets_stronger_regularization() -> None:
    separable, labels = _blobs(90, 3, noise=0.3)
    noise = np.random.default_rng(0).normal(size=separable.shape).astype(np.float32)
    folds = make_folds(labels, NAMES, None, 3, seed=0)
    strong, weak = choose_C(noise, labels, 3, folds), choose_C(separable, labels, 3, folds)
    assert strong < weak
    assert {strong, weak} <= set(C_VALUES)


@pytest.mark.parametrize("network", ["equivariant", "compact", "course"])
def test_features_and_head_give_the_networks_probabilities(network: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig(network=network, base_channels=8, hidden=(12,) if network == "course" else ())
    model = Classifier(build_network(config, InputSpec(1, 28, 28, 5)), [0.2], [0.3]).eval()
    images, labels = square_images(40, 3, seed=0)
    features = extract_features(model, images, 5, torch.device("cpu"))
    assert features.shape[:2] == (40, 5)
    head = fit_head(features[:, 0], labels, 3, C=0.1)
    fitted = with_head(model, head.weight, head.bias)
    with torch.no_grad():
        expected = torch.softmax(TTAClassifier(fitted, 5)(torch.from_numpy(images)[:, None]), dim=1)
    np.testing.assert_allclose(head.predict(features), expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("network", ["equivariant", "compact"])
def test_a_gray_image_in_three_channels_gets_the_same_scores(network: str) -> None:
    torch.manual_seed(0)
    model = Classifier(
        build_network(ModelConfig(network=network, base_channels=8), InputSpec(1, 28, 28, 3)), [0.2], [0.3]
    )
    images = torch.from_numpy(square_images(4, 3, seed=0)[0])[:, None]
    color = with_channels(model.eval(), 3)
    with torch.no_grad():
        torch.testing.assert_close(color(images.expand(-1, 3, -1, -1)), model(images), rtol=1e-4, atol=1e-5)
    built = build_network(ModelConfig(network=network, base_channels=8), InputSpec(3, 28, 28, 3))
    built.load_state_dict(color.network.state_dict())


def test_wrong_labels_are_found_and_right_ones_are_not() -> None:
    features, labels = _blobs(150, 3, noise=0.4)
    wrong = np.array([4, 50, 97])
    labels[wrong] = (labels[wrong] + 1) % 3
    folds = make_folds(labels, NAMES, None, 5, seed=0)
    probabilities = np.empty((150, 3))
    for train, held_out in folds.splits():
        probabilities[held_out] = fit_head(features[train], labels[train], 3, 0.1).predict(features[held_out][:, None])
    review = suspicious_labels(probabilities, labels, NAMES)
    assert {row.index for row in review} == set(wrong.tolist())
    for row in review:
        assert row.label == NAMES[labels[row.index]]
        assert row.suggested == NAMES[(labels[row.index] - 1) % 3]
    certainties = [row.label_probability for row in review]
    assert certainties == sorted(certainties)
    recalls = class_recalls(compute_metrics(probabilities, labels, NAMES))
    assert [recall.low for recall in recalls] == sorted(recall.low for recall in recalls)
    assert sum(recall.n_labels for recall in recalls) == 150
    heads = [fit_head(features[train], labels[train], 3, 0.1) for train, _ in folds.splits()]
    curve = learning_curve(features[:, None], labels, folds, heads, seed=0)
    assert [n for n, _ in curve] == [30, 60, 120]
    assert curve[-1][1] == (probabilities.argmax(axis=1) == labels).mean() > 0.9
    few = make_folds(labels[:12], NAMES, None, 2, seed=0)
    heads = [fit_head(features[:12][train], labels[:12][train], 3, 0.1) for train, _ in few.splits()]
    assert [n for n, _ in learning_curve(features[:12, None], labels[:12], few, heads, seed=0)] == [3, 6]


def test_baselines() -> None:
    features, labels = _blobs(60, 3, noise=0.3)
    folds = make_folds(labels, NAMES, None, 3, seed=0)
    probabilities, k = cross_validate_neighbors(features, labels, 3, folds)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.9
    assert k in (1, 3, 5, 10, 20)
    uneven = np.array([2] * 5 + [0] * 3 + [1] * 2)
    assert (predict_largest_class(uneven, 3).argmax(axis=1) == 2).all()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_head_does_not_depend_on_where_the_solver_starts(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_classes, 90)
    features = (np.eye(n_classes, 5)[labels] + rng.normal(size=(90, 5))).astype(np.float32)
    start = fit_head(features[:80], labels[:80], n_classes, 0.1)
    for is_standardized in (False, True):
        cold = fit_head(features, labels, n_classes, 0.1, is_standardized=is_standardized)
        warm = fit_head(features, labels, n_classes, 0.1, start=start, is_standardized=is_standardized)
        assert np.abs(cold.predict(features[:, None]) - warm.predict(features[:, None])).max() < 0.01
