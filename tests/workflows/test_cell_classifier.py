"""The scikit-learn estimator: scikit-learn's own checks, pipelines, grid search, pickles, and trained weights."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import nephros
from nephros.device import torch_threads
from nephros.errors import InvalidArgument, NephrosError
from nephros.recipe import LRScheduleConfig, ModelConfig, OptimizerConfig, Recipe
from nephros.workflows.cell_classifier import CellClassifier
from tests.conftest import square_images

SMALL = Recipe(
    name="small",
    model=ModelConfig(network="course", base_channels=4, depth=1, hidden=(16,)),
    optimizer=OptimizerConfig(name="adam", lr=0.01),
    epochs=30,
    batch_size=16,
    last_batch="balanced",
)
"""The rows of scikit-learn's checks are no images: a network that tells positions apart, trained on small batches."""
EXCLUDED = {
    "check_array_api_input": "runs only where SCIPY_ARRAY_API is set, and the estimator takes numpy arrays",
}
"""scikit-learn's checks that are left out, and why."""
X, LABELS = square_images(60, 3, seed=0)
Y = np.array(["leukocyte", "podocyte", "tubule"])[LABELS]


def _excluded(estimator: CellClassifier) -> dict[str, str]:
    return EXCLUDED


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([CellClassifier(SMALL, device="cpu")], expected_failed_checks=_excluded)  # type: ignore[untyped-decorator]
def test_scikit_learns_checks(estimator: CellClassifier, check: Callable[[CellClassifier], None]) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def fitted() -> CellClassifier:
    return CellClassifier(SMALL, epochs=8, batch_size=16, lr=0.02, random_state=0).fit(X, Y)


def test_predicting_leaves_the_network_in_evaluation_mode(fitted: CellClassifier) -> None:
    fitted.predict(X[:4])
    assert not any(module.training for module in fitted.network_.modules())


def test_images_are_learned(fitted: CellClassifier) -> None:
    X_test, labels = square_images(30, 3, seed=1)
    assert fitted.score(X_test, fitted.classes_[labels]) > 0.8
    assert fitted.predict(X_test).dtype == Y.dtype
    probabilities = fitted.predict_proba(X_test)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert isinstance(fitted.network_, torch.nn.Module)
    assert (fitted.recipe_.epochs, fitted.recipe_.batch_size, fitted.recipe_.optimizer.lr) == (8, 16, 0.02)
    assert [epoch.epoch for epoch in fitted.history_] == list(range(1, 9))


@pytest.mark.slow
def test_the_line_of_the_documentation_runs() -> None:
    X_test, labels = square_images(30, 3, seed=1)
    y_test = np.array(["leukocyte", "podocyte", "tubule"])[labels]
    assert CellClassifier(recipe="nephros-fast").fit(X, Y).score(X_test, y_test) > 0.8


def test_a_pickle_predicts_the_same(fitted: CellClassifier) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


def test_a_clone_is_unfitted_and_learns_the_same(fitted: CellClassifier) -> None:
    copy = clone(fitted)
    assert not hasattr(copy, "classes_")
    assert copy.get_params() == fitted.get_params()
    np.testing.assert_array_equal(copy.fit(X, Y).predict_proba(X), fitted.predict_proba(X))


def test_fitting_leaves_torchs_random_numbers_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    CellClassifier(SMALL, epochs=1).fit(X, Y)
    torch.testing.assert_close(torch.rand(3), expected)


@pytest.mark.parametrize(
    "images",
    [X.reshape(60, -1), X / 255, X / 200, X[..., None], X[:, None], np.repeat(X[..., None], 3, 3), (X - 100.0) / 50],
    ids=["rows", "float", "scaled", "nhw1", "n1hw", "rgb", "standardized"],
)
def test_images_come_in_many_forms(images: Any) -> None:
    classifier = CellClassifier(SMALL, epochs=8, random_state=0).fit(images, LABELS)
    assert classifier.score(images, LABELS) > 0.8


@pytest.mark.slow
def test_it_works_in_pipelines_and_grid_searches() -> None:
    rows = X.reshape(60, -1)
    flat = make_pipeline(StandardScaler(), CellClassifier(SMALL, epochs=8, random_state=0))
    assert flat.fit(rows, Y).score(rows, Y) > 0.8
    images = make_pipeline(FunctionTransformer(np.copy), CellClassifier(SMALL, random_state=0))
    search = GridSearchCV(images, {"cellclassifier__epochs": [1, 8], "cellclassifier__lr": [0.01]}, cv=2)
    search.fit(X, Y)
    assert search.best_params_["cellclassifier__epochs"] == 8
    assert len(cross_val_score(CellClassifier(SMALL, epochs=8, random_state=0), X, Y, cv=3)) == 3


@pytest.mark.slow
def test_trained_weights_are_fitted_to_new_classes() -> None:
    classifier = CellClassifier(pretrained=True, random_state=0).fit(X, Y)
    X_test, labels = square_images(30, 3, seed=1)
    assert classifier.score(X_test, classifier.classes_[labels]) > 0.8
    assert classifier.recipe_.name == "finetune-head"


@pytest.mark.slow
def test_trained_weights_take_other_sizes_and_color() -> None:
    enlarged = np.kron(X, np.ones((1, 2, 2), dtype=np.uint8))
    assert CellClassifier(pretrained=True).fit(enlarged, Y).score(enlarged, Y) > 0.9
    color = np.repeat(X[..., None], 3, axis=3)
    assert CellClassifier(pretrained=True).fit(color, Y).score(color, Y) > 0.9


@pytest.mark.slow
def test_several_methods_are_compared_by_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nephros.finetuning.network.STEPS", 10)
    monkeypatch.setattr("nephros.training.small_data.TARGET_STEPS", 10)
    classifier = CellClassifier(pretrained=True, methods=["head", "last-stage"], random_state=0)
    classifier.fit(X, Y, groups=np.arange(60) // 6)
    assert classifier.recipe_.name in ("finetune-head", "finetune-last-stage")


@pytest.mark.parametrize(
    ("parameters", "images", "parameter"),
    [
        ({"recipe": "nephros-fasst"}, X, "recipe"),
        ({"recipe": 3}, X, "recipe"),
        ({"recipe": "knn"}, X, "recipe"),
        ({"recipe": "nephros-distilled"}, X, "recipe"),
        ({"epochs": 0}, X, "epochs"),
        ({"batch_size": 0}, X, "batch_size"),
        ({"lr": -1.0}, X, "optimizer.lr"),
        ({"device": "tpu"}, X, "device"),
        ({"pretrained": "yes"}, X, "pretrained"),
        ({"pretrained": True, "methods": "haed"}, X, "methods"),
        ({"pretrained": True, "epochs": 2}, X, "epochs"),
        ({"pretrained": True, "batch_size": 16}, X, "batch_size"),
        ({"pretrained": True, "lr": 1e-3}, X, "lr"),
        ({}, X[..., None, None], "X"),
        ({}, np.stack([X, X], axis=-1), "X"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, Any], images: Any, parameter: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        CellClassifier(**parameters).fit(images, Y)
    assert caught.value.parameter == parameter


def test_bad_data_is_named(fitted: CellClassifier) -> None:
    for labels in (np.zeros(60), np.full(60, "a")):
        with pytest.raises(InvalidArgument) as caught:
            CellClassifier(SMALL).fit(X, labels)
        assert caught.value.parameter == "y"
    with pytest.raises(InvalidArgument) as caught:
        fitted.predict(np.zeros((3, 28, 20)))
    assert caught.value.parameter == "X"
    with pytest.raises(NephrosError, match=r"class disc has.*label more"):
        CellClassifier(pretrained=True).fit(X, np.array(["ring"] * 59 + ["disc"]))
    with pytest.raises(NephrosError, match="class 1 has"):  # names that no class can have
        CellClassifier(pretrained=True).fit(X, np.array([""] * 59 + [" "])[::-1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        CellClassifier(SMALL).fit(X, Y[:-1])
    with pytest.raises(ValueError, match="NaN"):
        CellClassifier(SMALL).fit(X * np.nan, Y)


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpoint": "best"},
        {"early_stopping_patience": 2},
        {"schedule": LRScheduleConfig(name="plateau", patience=1)},
        {"ema_decay": 0.9},
    ],
)
def test_recipes_that_go_by_validation_hold_images_out(changes: dict[str, Any]) -> None:
    classifier = CellClassifier(dataclasses.replace(SMALL, epochs=4, **changes)).fit(X, Y)
    assert classifier.predict(X).shape == (60,)


def test_a_class_of_one_image_is_named_where_images_are_held_out() -> None:
    labels = np.where(np.arange(60) == 7, "tubule", "podocyte")
    with pytest.raises(InvalidArgument, match="`y` is 1 image of class tubule"):
        CellClassifier(dataclasses.replace(SMALL, checkpoint="best")).fit(X, labels)


def test_the_result_of_a_seed_does_not_depend_on_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nephros.training.replicas.MIN_MULTIPLY_ADDS", 0)
    images, labels = square_images(140, 2, seed=0)
    normalized = ModelConfig(network="poster", base_channels=2)
    probabilities = []
    for threads in (1, 2):
        with torch_threads(threads):
            classifier = CellClassifier(dataclasses.replace(SMALL, model=normalized, epochs=3, batch_size=140))
            probabilities.append(classifier.fit(images, labels).predict_proba(images))
    np.testing.assert_allclose(probabilities[0], probabilities[1], atol=1e-3)


def test_it_is_public() -> None:
    assert nephros.CellClassifier is CellClassifier
