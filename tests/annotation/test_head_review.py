"""Cross-validation of a project's head: folds, gain, suspicious labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nephros.annotation import head_review
from nephros.annotation.head_review import RECENT_LABELS, review_head
from nephros.finetuning.head import LinearHead, fit_head


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


def test_a_review_that_begins_at_the_former_heads_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = _labels(160)
    cells, class_ids = np.arange(160), (0, 1, 2)
    starts: list[bool] = []

    def fit(*args: Any, start: LinearHead | None = None, **options: Any) -> LinearHead:
        starts.append(start is not None)
        return fit_head(*args, start=start, **options)

    monkeypatch.setattr(head_review, "fit_head", fit)
    former = review_head(features[:150], labels[:150], cells[:150], class_ids, 0.1)
    assert starts == [False] * 10
    again = review_head(features, labels, cells, class_ids, 0.1, previous=former)
    assert starts[10:] == [True] * 10
    anew = review_head(features, labels, cells, class_ids, 0.1)
    assert former is not None
    assert again is not None
    assert anew is not None
    assert again.accuracy == pytest.approx(anew.accuracy, abs=0.01)  # one of 160 cells may be on the boundary
    assert again.gain_of_recent == pytest.approx(anew.gain_of_recent, abs=0.02)
    assert np.allclose(again.quantiles, anew.quantiles, atol=0.01)


@pytest.mark.parametrize("change", ["another label", "another order", "fewer cells", "a class more"])
def test_no_head_begins_at_one_that_has_seen_what_is_held_out(change: str) -> None:
    features, labels = _labels(60)
    former = review_head(features, labels, np.arange(60), (0, 1, 2), 0.1)
    assert former is not None
    cells, changed = np.arange(60), labels.copy()
    if change == "another label":
        changed[5] = (labels[5] + 1) % 3
    elif change == "another order":
        cells, changed = np.roll(cells, -1), np.roll(labels, -1)
    elif change == "fewer cells":
        cells, changed = cells[1:], labels[1:]
    else:
        cells, changed = np.arange(62), np.append(labels, [3, 3])
    assert former.heads.has_seen_only(np.arange(60), labels)
    assert not former.heads.has_seen_only(cells, changed)
