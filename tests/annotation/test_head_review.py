"""Cross-validation of a project's head: folds, gain, suspicious labels."""

from __future__ import annotations

import numpy as np

from nephros.annotation.head_review import RECENT_LABELS, review_head


def _labels(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    return (3 * np.eye(3, 6)[labels] + rng.normal(size=(n, 6))).astype(np.float32), labels


def test_accuracy_recalls_and_a_wrong_label() -> None:
    features, labels = _labels(120)
    wrong = labels.copy()
    wrong[7] = (labels[7] + 1) % 3
    review = review_head(features, wrong, 1000 + np.arange(120), (2, 5, 9), 0.1)
    assert review is not None
    assert 0.85 < review.low < review.accuracy < review.high <= 1
    assert review.suspicious[0] == 1007
    assert [(row.class_id, row.n_labels) for row in review.classes] == list(
        zip((2, 5, 9), np.bincount(wrong).tolist(), strict=True)
    )
    assert review.gain_of_recent is not None
    assert -0.2 < review.gain_of_recent < 0.2
    assert len(review.quantiles) == 1001


def test_a_class_with_one_label_is_left_out_and_has_no_recall() -> None:
    features, labels = _labels(60)
    labels = np.append(labels, 3)
    review = review_head(np.vstack([features, features[:1]]), labels, np.arange(61), (0, 1, 2, 3), 0.1)
    assert review is not None
    assert len(review.cells) == 60
    last = review.classes[-1]
    assert (last.n_labels, last.recall, last.low, last.high) == (1, None, 0, 1)


def test_the_latest_labels_gain_what_the_earlier_ones_lack() -> None:
    features, labels = _labels(400)
    late = labels == 2
    order = np.concatenate(
        [np.flatnonzero(~late)[:60], np.flatnonzero(late)[:3], np.flatnonzero(late)[3 : 3 + RECENT_LABELS]]
    )
    review = review_head(features[order], labels[order], order, (0, 1, 2), 0.1)
    assert review is not None
    assert review.gain_of_recent is not None
    assert review.gain_of_recent > 0


def test_too_few_labels_or_one_class_have_no_review() -> None:
    features, labels = _labels(30)
    assert review_head(features[:4], labels[:4], np.arange(4), (0, 1, 2), 0.1) is None
    assert review_head(features, np.zeros(30, np.int64), np.arange(30), (0,), 0.1) is None
    assert review_head(features, labels, np.arange(30), (0, 1, 2), 0.1, lambda: True) is None
