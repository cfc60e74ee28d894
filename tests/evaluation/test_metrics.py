"""Metrics agree with scikit-learn to 1e-9 and with MedMNIST's definition, also on edge cases; metrics.json reads back."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from nephros.errors import FileError, IncompleteError
from nephros.evaluation.metrics import (
    Metrics,
    calibration_curve,
    class_pr_auc,
    class_pr_curve,
    class_roc_curve,
    compute_metrics,
    confusion_matrix,
    expected_calibration_error,
)


def _random_case(n: int, n_classes: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n)])
    scores = rng.normal(size=(len(labels), n_classes)) + 1.5 * np.eye(n_classes)[labels]
    if seed % 2:
        scores = scores.round()  # ties
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return probabilities, labels


def _class_names(n_classes: int) -> tuple[str, ...]:
    return tuple(f"class {c}" for c in range(n_classes))


@given(n=st.integers(5, 200), classes=st.integers(2, 11), seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_agrees_with_scikit_learn(n: int, classes: int, seed: int) -> None:
    probabilities, labels = _random_case(n, classes, seed)
    metrics = compute_metrics(probabilities, labels, _class_names(classes))
    predicted = probabilities.argmax(axis=1)
    options = {"average": "macro", "zero_division": 0}
    assert metrics.n == len(labels)
    assert metrics.accuracy == pytest.approx(reference.accuracy_score(labels, predicted), abs=1e-9)
    assert metrics.loss == pytest.approx(reference.log_loss(labels, probabilities, labels=range(classes)), abs=1e-9)
    assert metrics.macro_f1 == pytest.approx(reference.f1_score(labels, predicted, **options), abs=1e-9)
    assert metrics.macro_precision == pytest.approx(reference.precision_score(labels, predicted, **options), abs=1e-9)
    assert metrics.macro_recall == pytest.approx(reference.balanced_accuracy_score(labels, predicted), abs=1e-9)
    per_class = reference.precision_recall_fscore_support(labels, predicted, labels=range(classes), zero_division=0)
    for key, column in zip(("precision", "recall", "f1", "support"), per_class, strict=True):
        assert [getattr(row, key) for row in metrics.per_class] == pytest.approx(list(column), abs=1e-9)
    assert np.array_equal(
        metrics.confusion_matrix, reference.confusion_matrix(labels, predicted, labels=range(classes))
    )
    if classes > 2:
        auc = reference.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro", labels=range(classes))
    else:
        auc = reference.roc_auc_score(labels, probabilities[:, 1])
    assert metrics.auc == pytest.approx(auc, abs=1e-9)
    pr_aucs = [reference.average_precision_score(labels == c, probabilities[:, c]) for c in range(classes)]
    assert [row.pr_auc for row in metrics.per_class] == pytest.approx(pr_aucs, abs=1e-9)
    assert metrics.pr_auc == pytest.approx(np.mean(pr_aucs), abs=1e-9)


def _medmnist_auc(labels: NDArray[np.int64], scores: NDArray[np.float64], task: str) -> float:
    """Return the AUC as MedMNIST's evaluator computes it: binary: the last column; else the mean one-vs-rest over columns."""
    if task == "binary-class":
        return float(reference.roc_auc_score(labels, scores[:, -1]))
    aucs = [reference.roc_auc_score((labels == c).astype(float), scores[:, c]) for c in range(scores.shape[1])]
    return float(np.mean(aucs))


@pytest.mark.parametrize(("classes", "task"), [(2, "binary-class"), (5, "ordinal-regression"), (8, "multi-class")])
def test_auc_agrees_with_medmnist(classes: int, task: str) -> None:
    probabilities, labels = _random_case(300, classes, seed=4)
    assert compute_metrics(probabilities, labels, _class_names(classes)).auc == pytest.approx(
        _medmnist_auc(labels, probabilities, task), abs=1e-9
    )


def test_loss_is_the_mean_over_images() -> None:
    probabilities = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    metrics = compute_metrics(probabilities, np.array([0, 0, 1]), _class_names(2))
    assert metrics.loss == pytest.approx(-(math.log(0.5) + math.log(0.9) + math.log(0.8)) / 3, abs=1e-12)


def test_an_absent_class_has_no_auc_and_is_left_out_of_macro_averages() -> None:
    probabilities, labels = _random_case(100, 4, seed=1)
    keep = labels != 2
    metrics = compute_metrics(probabilities[keep], labels[keep], _class_names(4))
    assert metrics.per_class[2].auc is None
    assert metrics.per_class[2].support == 0
    assert metrics.macro_classes == (0, 1, 3)
    assert metrics.per_class[2].pr_auc is None
    others = [row.auc for row in metrics.per_class if row.auc is not None]
    assert metrics.auc == pytest.approx(np.mean(others))
    assert metrics.pr_auc == pytest.approx(np.mean([row.pr_auc for row in metrics.per_class if row.pr_auc is not None]))
    assert len(metrics.confusion_matrix) == 4


def test_a_single_class_has_no_auc() -> None:
    metrics = compute_metrics(np.array([[0.6, 0.4], [0.7, 0.3]]), np.array([0, 0]), _class_names(2))
    assert metrics.auc is None
    assert metrics.pr_auc is None
    assert metrics.accuracy == 1.0


def test_precision_of_a_class_never_predicted_is_zero() -> None:
    probabilities = np.tile([0.7, 0.2, 0.1], (9, 1))
    metrics = compute_metrics(probabilities, np.arange(9) % 3, _class_names(3))
    assert [row.precision for row in metrics.per_class] == pytest.approx([1 / 3, 0, 0])
    assert metrics.auc == pytest.approx(0.5)


def test_calibration_error_agrees_with_a_calculation_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.55, 0.45], [0.45, 0.55]])
    labels = np.array([0, 1, 0, 0])
    bins = calibration_curve(probabilities, labels)
    assert sum(b.count for b in bins) == 4
    # Two images of confidence .95, one correct: |.5 - .95|; two of .55, one correct: |.5 - .55|.
    assert expected_calibration_error(bins) == pytest.approx((2 * 0.45 + 2 * 0.05) / 4)


def test_confidence_1_is_in_the_last_bin() -> None:
    bins = calibration_curve(np.array([[1.0, 0.0]]), np.array([0]))
    assert bins[-1].count == 1


def test_rows_of_the_confusion_matrix_are_actual_classes() -> None:
    assert confusion_matrix(np.array([1, 1, 0]), np.array([0, 1, 0]), 2).tolist() == [[1, 1], [0, 1]]


def test_roc_curve_runs_from_corner_to_corner_and_has_the_auc() -> None:
    probabilities, labels = _random_case(50, 3, seed=2)
    false_positive, true_positive = class_roc_curve(probabilities, labels, 1)
    assert (false_positive[0], true_positive[0], false_positive[-1], true_positive[-1]) == (0, 0, 1, 1)
    auc = float(np.trapezoid(true_positive, false_positive))
    assert auc == pytest.approx(reference.roc_auc_score(labels == 1, probabilities[:, 1]))


def test_precision_recall_curve_rises_in_recall_and_has_the_area() -> None:
    probabilities, labels = _random_case(50, 3, seed=2)
    recall, precision = class_pr_curve(probabilities, labels, 1)
    assert (recall[0], precision[0], recall[-1]) == (0, 1, 1)
    assert (np.diff(recall) >= 0).all()
    area = float((np.diff(recall) * precision[1:]).sum())
    assert area == pytest.approx(class_pr_auc(probabilities, labels, 1))


def test_metrics_stored_without_pr_auc_are_read(tmp_path: Path) -> None:
    metrics = compute_metrics(*_random_case(60, 3, seed=3), _class_names(3))
    values = metrics.to_dict()
    del values["pr_auc"]
    for row in values["per_class"]:
        del row["pr_auc"]
    loaded = Metrics.from_dict(values)
    assert (loaded.pr_auc, loaded.per_class[0].pr_auc) == (None, None)
    assert loaded.auc == metrics.auc


def test_metrics_are_read_back_as_written(tmp_path: Path) -> None:
    probabilities, labels = _random_case(60, 3, seed=3)
    metrics = dataclasses.replace(
        compute_metrics(probabilities, labels, _class_names(3)), split="val", epoch=4, provenance={"title": "x"}
    )
    metrics.save(tmp_path / "metrics.json")
    assert Metrics.load(tmp_path / "metrics.json") == metrics
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert stored["format"] == "nephros-metrics-2"
    assert stored["per_class"][1] | {"auc": None} == {
        "class": 1, "name": "class 1", "precision": metrics.per_class[1].precision, "recall": metrics.per_class[1].recall,
        "f1": metrics.per_class[1].f1, "auc": None, "support": metrics.per_class[1].support,
        "pr_auc": metrics.per_class[1].pr_auc,
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"format": "nephros-metrics-1"}', '{"format": "nephros-metrics-2"}']
)
def test_damaged_metrics_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "metrics.json"
    with pytest.raises(IncompleteError):
        Metrics.load(path)
    path.write_text(text)
    with pytest.raises(FileError) as exc_info:
        Metrics.load(path)
    assert exc_info.value.path == path
