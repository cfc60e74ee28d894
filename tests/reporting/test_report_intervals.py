"""Intervals of macro AUC and macro F1 agree with brute force, and hold the truth where cells are few or all of them right."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
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


def test_the_auc_interval_of_many_cells_is_centered_on_the_macro_auc(evaluation: Make) -> None:
    result = evaluation(8, n=20_000)
    low, high = macro_auc_interval(result.probabilities, result.labels, list(range(8))) or (0, 0)
    assert high - low < 0.01
    assert (low + high) / 2 == pytest.approx(result.metrics.auc, abs=1e-4)


def test_without_an_auc_there_is_no_interval(evaluation: Make) -> None:
    result = evaluation(4, missing=1)
    assert macro_auc_interval(result.probabilities, result.labels, [0, 1]) is None
    assert macro_auc_interval(result.probabilities, result.labels, []) is None
    assert macro_auc_interval(result.probabilities, result.labels, [0, 2, 3]) is not None


def test_the_auc_interval_of_five_cells_is_that_of_the_formula() -> None:
    labels = np.array([0, 0, 1, 1, 1])
    scores = np.array([0.9, 0.4, 0.6, 0.2, 0.1])
    probabilities = np.stack([scores, 1 - scores], axis=1)
    # Two positives, above 3 and 2 of 3 negatives; three negatives, below 1, 2 and 2 of 2 positives. Half a positive
    # is above half of the negatives, which is 1 / 2 from the largest share: a variance of 1 / 2 (1 / 2)^2 / 2.5^2.
    variance = np.var([1, 2 / 3], ddof=1) / 2 + np.var([1 / 2, 1, 1], ddof=1) / 3 + 1 / 50
    center = (1 + 2 / 3 + 1 / 4) / 2.5
    half_width = 1.959964 * math.sqrt(variance) / (center * (1 - center))
    low, high = macro_auc_interval(probabilities, labels, [0]) or (0, 0)
    assert math.log(low / (1 - low)) == pytest.approx(math.log(center / (1 - center)) - half_width, abs=1e-5)
    assert math.log(high / (1 - high)) == pytest.approx(math.log(center / (1 - center)) + half_width, abs=1e-5)
    assert macro_auc_interval(probabilities, labels, [0, 1]) == pytest.approx((low, high), abs=1e-12)
    assert macro_auc_interval(probabilities[1:], labels[1:], [0]) is None


def _perfect(per_class: int, classes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    labels = np.arange(per_class * classes) % classes
    return np.eye(classes)[labels], labels


@pytest.mark.parametrize(
    ("per_class", "classes", "lowest", "highest"),
    # The exact bound of an AUC of 1 of ten cells of either class is 0.025^(1/10) = 0.69; Wilson's of 20 of
    # 20 cells is 0.84, and of 160 of 160 it is 0.98.
    [(10, 2, 0.69, 0.92), (20, 8, 0.97, 0.99), (1000, 8, 0.999, 0.9998)],
)
def test_the_intervals_of_a_perfect_run_shrink_with_its_cells(
    per_class: int, classes: int, lowest: float, highest: float
) -> None:
    probabilities, labels = _perfect(per_class, classes)
    auc = macro_auc_interval(probabilities, labels, range(classes))
    f1 = macro_f1_interval(np.diag(np.bincount(labels)))
    for interval in (auc, f1):
        assert interval is not None
        assert interval[1] == 1
        assert lowest < interval[0] < highest


def test_a_class_of_one_cell_leaves_macro_f1_wide() -> None:
    low, high = macro_f1_interval(np.diag([100, 100, 1]))
    assert (high, low < 0.95) == (1, True)
    assert macro_f1_interval(np.diag([100, 100, 100]))[0] > 0.97


@pytest.mark.parametrize(("n", "share_right"), [(20, 0.97), (30, 0.9), (60, 0.7)])
def test_the_interval_of_macro_f1_holds_the_truth(n: int, share_right: float) -> None:
    rng, n_classes, n_held = np.random.default_rng(2), 3, 0
    shares = np.full((n_classes, n_classes), (1 - share_right) / 2)
    np.fill_diagonal(shares, share_right)
    shares /= n_classes
    for counts in rng.multinomial(n, shares.reshape(-1), size=200):
        low, high = macro_f1_interval(counts.reshape(n_classes, n_classes))
        n_held += low <= share_right <= high  # of classes of equal size and error, which is macro F1
    assert n_held >= 0.91 * 200


@pytest.mark.parametrize(("per_class", "distance"), [(8, 3.0), (10, 2.0), (30, 1.0)])
def test_the_interval_of_auc_holds_the_truth(per_class: int, distance: float) -> None:
    rng, n_held = np.random.default_rng(3), 0
    truth = (
        1 + math.erf(distance / 2)
    ) / 2  # of two normal distributions: the normal distribution at distance / sqrt(2)
    labels = np.arange(2 * per_class) % 2
    for _ in range(200):
        scores = rng.normal(size=2 * per_class) + distance * labels
        low, high = macro_auc_interval(np.stack([-scores, scores], axis=1), labels, [0, 1]) or (1, 0)
        n_held += low <= truth <= high
    assert n_held >= 0.91 * 200


@pytest.mark.parametrize(("per_class", "distance"), [(6, 3.0), (10, 2.0)])
def test_the_interval_of_the_mean_auc_of_three_classes_holds_the_truth(per_class: int, distance: float) -> None:
    def draw(n: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        labels = np.arange(3 * n) % 3
        scores = rng.normal(size=(3 * n, 3))
        scores[np.arange(3 * n), labels] += distance
        return scores, labels

    rng, n_held = np.random.default_rng(4), 0
    scores, labels = draw(20_000)
    truth = float(np.mean([roc_auc_score(labels == c, scores[:, c]) for c in range(3)]))
    for _ in range(200):
        low, high = macro_auc_interval(*draw(per_class), [0, 1, 2]) or (1, 0)
        n_held += low <= truth <= high
    assert n_held >= 0.91 * 200
