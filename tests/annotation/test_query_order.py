"""Which cells are to be labeled next."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nephros.annotation.model_state import FeatureSpace, ModelState
from nephros.annotation.query_order import QueryOrderCache, choose_queries, greedy_cover, query_order


def _state(features: np.ndarray, labels: dict[int, int], probabilities: np.ndarray | None = None) -> ModelState:
    n = len(features)
    current = np.full(n, -1)
    for cell, label in labels.items():
        current[cell] = label
    space = FeatureSpace(features.astype(np.float32), np.zeros(n, np.float32))
    return ModelState(1, n, current, np.zeros(n, np.int64), {}, space, (0, 1), None, probabilities)


def _blobs(counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(len(counts)), counts)
    centers = 8 * np.eye(len(counts), 6)
    return centers[kinds] + rng.normal(size=(len(kinds), 6)), kinds


def test_the_greedy_cover_is_that_of_every_row_computed_anew() -> None:
    rng = np.random.default_rng(1)
    kernel, weights = rng.random((40, 60)).astype(np.float32), rng.random(60).astype(np.float32)
    covered = (0.3 * rng.random(60)).astype(np.float32)
    expected: list[int] = []
    cover = covered.copy()
    for _ in range(12):
        gains = np.maximum(kernel - cover, 0) @ weights
        gains[expected] = -1
        expected.append(int(gains.argmax()))
        cover = np.maximum(cover, kernel[expected[-1]])
    assert greedy_cover(kernel, covered, weights, 12).tolist() == expected
    assert sorted(greedy_cover(kernel, covered, weights, 99).tolist()) == list(range(40))


def test_the_first_cells_are_of_every_kind_and_typical() -> None:
    features, kinds = _blobs((400, 60, 60, 40, 30))
    outlier = np.full((1, 6), -60.0)
    order = query_order(_state(np.concatenate([features, outlier]), {}))
    assert set(kinds[order[:10]]) == set(range(5))
    assert len(features) not in order[:20]


def test_labeled_cells_come_last_and_their_neighbors_are_no_priority() -> None:
    features, kinds = _blobs((100, 100, 100))
    labels = {cell: int(kinds[cell]) for cell in range(200)}
    order = query_order(_state(features, labels))
    assert set(order[-200:]) == set(range(200))
    assert (kinds[order[:5]] == 2).all()


def test_uncertain_cells_come_first() -> None:
    features, kinds = _blobs((300, 300))
    probabilities = np.tile(np.array([0.99, 0.01], np.float32), (600, 1))
    probabilities[kinds == 1] = [0.45, 0.55]
    order = query_order(_state(features, {0: 0, 300: 1}, probabilities))
    assert (kinds[order[:20]] == 1).mean() > 0.8


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_cells(n: int) -> None:
    features = np.ones((n, 4))
    assert sorted(query_order(_state(features, {})).tolist()) == list(range(n))
    if n:
        assert query_order(_state(features, {0: 1})).tolist()[-1] == 0


def test_cells_without_features_wait_behind_the_others() -> None:
    state = _state(np.eye(4), {1: 0})
    longer = ModelState(1, 6, np.array([-1, 0, -1, -1, -1, 0]), np.zeros(6, np.int64), {}, state.space)
    order = query_order(longer).tolist()
    assert order[3:] == [4, 1, 5]


def test_the_same_state_has_the_same_order() -> None:
    features, _ = _blobs((3000, 500))
    space = FeatureSpace(features.astype(np.float32), np.zeros(3500, np.float32))
    margins = np.random.default_rng(3).random(3500).astype(np.float32)
    arguments = space.unit, margins, np.arange(10), 10 + np.argsort(margins[10:]), 30
    first = choose_queries(*arguments)
    assert np.array_equal(first, choose_queries(*arguments))
    assert len(set(first.tolist())) == 30


def test_an_order_is_computed_once_for_the_same_labels_and_predictions() -> None:
    features, kinds = _blobs((60, 60))
    probabilities = np.tile(np.array([0.6, 0.4], np.float32), (120, 1))
    state = _state(features, {0: 0, 60: 1}, probabilities)
    ordered = QueryOrderCache()
    first = ordered(state)
    assert np.array_equal(first, query_order(state))
    assert ordered(dataclasses.replace(state, revision=2, has_current_review=True)) is first
    more = state.labels.copy()
    more[7] = kinds[7]
    assert ordered(dataclasses.replace(state, labels=more))[-2:].tolist() == [7, 60]
    surer = np.where(kinds[:, None] == 1, probabilities, [[0.9, 0.1]]).astype(np.float32)
    assert np.array_equal(
        ordered(dataclasses.replace(state, probabilities=surer)),
        query_order(dataclasses.replace(state, probabilities=surer)),
    )
