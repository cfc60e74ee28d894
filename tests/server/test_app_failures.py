"""Responses when the model is slow or broken or the server is full, from the application itself without a process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.inference.model_card import ModelCard
from nephros.inference.onnx_session import ForwardFn
from nephros.inference.prediction_batch import PredictionBatch
from nephros.inference.predictor import Predictor
from nephros.server.app import create_app
from nephros.server.batching import MAX_QUEUE_LENGTH
from nephros.server.limits import RequestLimits
from nephros.server.service import Service
from tests.conftest import square_images
from tests.server.call_app import call_app
from tests.server.live_server import encode_image, multipart_body

BODY, _ = multipart_body([("a.png", encode_image(square_images(1, 4, 0)[0][0])), ("b.png", b"bad")])
SHORT_LIMITS = RequestLimits(timeout_s=0.5, idle_timeout_s=0.2)


class ControllablePredictor(Predictor):
    """A predictor that waits or fails on demand."""

    def __init__(self, forward_fn: ForwardFn, card: ModelCard) -> None:
        super().__init__(forward_fn, card)
        self.may_proceed = threading.Event()
        self.broken = False
        self.may_proceed.set()

    def predict_batch(self, cells: NDArray[np.uint8]) -> PredictionBatch:
        """Predict, once it may proceed."""
        assert self.may_proceed.wait(20)
        if self.broken:
            raise RuntimeError("the runtime failed")
        return super().predict_batch(cells)


@pytest.fixture
def controllable_predictor(exported_model: Path) -> Iterator[ControllablePredictor]:
    predictor = ControllablePredictor.from_onnx(exported_model)
    assert isinstance(predictor, ControllablePredictor)
    yield predictor
    predictor.may_proceed.set()


@pytest.fixture
def service(controllable_predictor: ControllablePredictor) -> Iterator[Service]:
    service = Service(controllable_predictor, reader_processes=0)
    yield service
    controllable_predictor.may_proceed.set()
    service.close()


@pytest.mark.slow
def test_a_slow_model_times_out_and_recovers(service: Service, controllable_predictor: ControllablePredictor) -> None:
    app = create_app(service, [], limits=SHORT_LIMITS, batch_limits=SHORT_LIMITS)
    controllable_predictor.may_proceed.clear()
    status, text = call_app(app, "POST", "/predict", BODY)
    assert status == 504
    assert list(json.loads(text)) == ["error"]
    status, text = call_app(app, "POST", "/predict/batch", BODY)
    assert status == 200
    *results, last_line = [json.loads(line) for line in text.splitlines()]
    assert last_line["done"] is False
    assert "took too long" in last_line["error"]
    assert last_line["n_rows"] == len(results)
    controllable_predictor.may_proceed.set()
    status, text = call_app(
        create_app(service, []), "POST", "/predict", BODY
    )  # the usual limits, however slow the machine
    assert status == 200
    assert [result["error"] is None for result in json.loads(text)["results"]] == [True, False]


def test_a_broken_model_is_reported_as_failing(service: Service, controllable_predictor: ControllablePredictor) -> None:
    app = create_app(service, [])
    assert call_app(app, "GET", "/health") == (200, '{"status":"ok"}')
    controllable_predictor.broken = True
    status, text = call_app(app, "GET", "/health")
    assert (status, json.loads(text)["status"]) == (503, "failing")
    with pytest.raises(RuntimeError, match="the runtime failed"):  # reaches the server's log
        call_app(app, "POST", "/predict", BODY)
    controllable_predictor.broken = False
    assert call_app(app, "GET", "/health")[0] == 200
    assert 'path="/predict",status="500"' in call_app(app, "GET", "/metrics")[1]


def _wait_for_empty_queue(service: Service) -> None:
    deadline = time.monotonic() + 20
    while len(service.batcher):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_full_queue_rejects_requests_until_it_is_empty(
    service: Service, controllable_predictor: ControllablePredictor
) -> None:
    app = create_app(service, [], limits=SHORT_LIMITS)
    controllable_predictor.may_proceed.clear()
    cell = np.zeros((1, 28, 28), dtype=np.uint8)
    service.batcher.submit(cell)
    _wait_for_empty_queue(service)  # the first cell is at work, and stays there
    for _ in range(MAX_QUEUE_LENGTH):
        service.batcher.submit(cell)
    status, text = call_app(app, "POST", "/predict", BODY)
    assert status == 503
    assert "busy" in json.loads(text)["error"]
    controllable_predictor.may_proceed.set()
    _wait_for_empty_queue(service)
    assert call_app(app, "POST", "/predict", BODY)[0] == 200


def test_full_memory_rejects_uploads_and_is_released(service: Service) -> None:
    app = create_app(service, [], max_buffered_bytes=len(BODY) - 1)
    for _ in range(3):
        status, text = call_app(app, "POST", "/predict", BODY)
        assert status == 503
        assert "memory" in json.loads(text)["error"]


def test_a_stalled_upload_is_cut_off(service: Service) -> None:
    app = create_app(service, [], limits=SHORT_LIMITS)
    status, text = call_app(app, "POST", "/predict", BODY, stall_upload=True)
    assert status == 408
    assert list(json.loads(text)) == ["error"]


def test_files_above_a_limit_get_errors(service: Service) -> None:
    app = create_app(service, [], batch_limits=RequestLimits(timeout_s=30, max_cells=0))
    *lines, last_line = call_app(app, "POST", "/predict/batch", BODY)[1].splitlines()
    assert json.loads(last_line)["n_rows"] == 2
    error = json.loads(lines[0])["error"]
    assert error.startswith("a.png ")
    assert " 0 cells" in error
