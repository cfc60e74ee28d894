"""Intervals of macro AUC and macro F1 agree with brute force."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from nephros.evaluation.scoring import Evaluation
from nephros.evaluation.significance import macro_auc_interval, macro_f1_interval

Make = Callable[..., Evaluation]


@pytest.mark.slow
def test_macro_intervals_agree_with_a_bootstrap_of_cells(evaluation: Make) -> None:
    result = evaluation(3, n=500)
    rng = np.random.default_rng(0)
    aucs, scores = [], []
    for _ in range(120):
        rows = rng.integers(0, 500, 500)
        probabilities, labels = result.probabilities[rows], result.labels[rows]
        aucs.append(np.mean([roc_auc_score(labels == c, probabilities[:, c]) for c in range(3)]))
        scores.append(f1_score(labels, probabilities.argmax(axis=1), average="macro"))
    auc = macro_auc_interval(result.probabilities, result.labels, [0, 1, 2])
    f1 = macro_f1_interval(np.array(result.metrics.confusion_matrix))
    assert auc is not None
    for interval, resampled in ((auc, aucs), (f1, scores)):
        assert interval[1] - interval[0] == pytest.approx(2 * 1.96 * np.std(resampled), rel=0.2)
        assert sum(interval) / 2 == pytest.approx(np.mean(resampled), abs=0.5 * np.std(resampled))
    assert result.metrics.auc is not None
    assert auc[0] < result.metrics.auc < auc[1]
    assert f1[0] < result.metrics.macro_f1 < f1[1]


def test_the_auc_interval_is_centered_on_the_macro_auc(evaluation: Make) -> None:
    result = evaluation(8)
    low, high = macro_auc_interval(result.probabilities, result.labels, list(range(8))) or (0, 0)
    assert (low + high) / 2 == pytest.approx(result.metrics.auc, abs=1e-12)


def test_without_an_auc_there_is_no_interval(evaluation: Make) -> None:
    result = evaluation(4, missing=1)
    assert macro_auc_interval(result.probabilities, result.labels, [0, 1]) is None
    assert macro_auc_interval(result.probabilities, result.labels, []) is None
    assert macro_auc_interval(result.probabilities, result.labels, [0, 2, 3]) is not None


def test_intervals_of_small_classes() -> None:
    for per_class in (1, 2):
        low, high = macro_f1_interval(np.eye(8, dtype=np.int64) * per_class)
        assert (low, high) == (1, 1)
    labels = np.array([0, 0, 1, 1, 1])
    scores = np.array([0.9, 0.4, 0.6, 0.2, 0.1])
    probabilities = np.stack([scores, 1 - scores], axis=1)
    # Two positives, above 3 and 2 of 3 negatives; three negatives, below 1, 2 and 2 of 2 positives.
    variance = np.var([1, 2 / 3], ddof=1) / 2 + np.var([1 / 2, 1, 1], ddof=1) / 3
    low, high = macro_auc_interval(probabilities, labels, [0]) or (0, 0)
    assert low == pytest.approx(5 / 6 - 1.959964 * np.sqrt(variance), abs=1e-6)
    assert high == 1
    assert macro_auc_interval(probabilities[1:], labels[1:], [0]) is None


def test_the_interval_of_a_perfect_run_is_a_point(evaluation: Make) -> None:
    result = evaluation(3, separation=99)
    assert macro_f1_interval(np.array(result.metrics.confusion_matrix)) == (1, 1)
    assert macro_auc_interval(result.probabilities, result.labels, [0, 1, 2]) == (1, 1)
