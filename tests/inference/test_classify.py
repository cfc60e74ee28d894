"""Predicting batch by batch while the next is read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from nephros.inference.classify import _predict_while_reading
from nephros.inference.reader import CellBatch


class EventPredictor:
    """Predicts a batch once `is_read` is set; returns the first pixel of each cell."""

    def __init__(self) -> None:
        self.is_read = threading.Event()

    def predict_batch(self, cells: Any) -> Any:
        assert self.is_read.wait(60)
        return cells[:, 0, 0].copy()


def batch(value: int) -> CellBatch:
    return np.array([value]), np.full((1, 2, 2), value, np.uint8)


def test_the_next_batch_is_read_while_the_network_runs_and_the_order_is_kept() -> None:
    predictor: Any = EventPredictor()

    def batches() -> Iterator[CellBatch]:
        yield batch(1)
        predictor.is_read.set()  # the network still waits for this with the first batch
        yield batch(2)
        yield batch(3)

    results: list[Any] = list(_predict_while_reading(predictor, batches()))
    assert [(int(rows[0]), int(cells[0, 0, 0]), int(values[0])) for rows, cells, values in results] == [
        (1, 1, 1), (2, 2, 2), (3, 3, 3),
    ]  # fmt: skip


def test_nothing_to_read_is_nothing_predicted() -> None:
    assert list(_predict_while_reading(EventPredictor(), [])) == []  # type: ignore[arg-type]


def test_an_error_of_the_reader_or_of_the_network_reaches_the_caller() -> None:
    predictor: Any = EventPredictor()
    predictor.is_read.set()

    def damaged() -> Iterator[CellBatch]:
        yield batch(1)
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        list(_predict_while_reading(predictor, damaged()))
    with pytest.raises(IndexError):
        list(_predict_while_reading(predictor, [(np.array([0]), np.zeros((1, 0, 0), np.uint8))]))
