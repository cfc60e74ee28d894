"""What clients hear when the model is slow or broken, or the server has no room: the application alone, called directly."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.inference.predictor import PredictionBatch, Predictor
from nephros.server import limits
from nephros.server.app import create_app
from nephros.server.limits import RequestLimits
from nephros.server.service import Service
from tests.conftest import square_images
from tests.server.server import encode_image, multipart_body

BODY, CONTENT_TYPE = multipart_body([("a.png", encode_image(square_images(1, 4, 0)[0][0])), ("b.png", b"bad")])
SHORT_LIMITS = RequestLimits(timeout_s=0.5, idle_timeout_s=0.2)


class ControllablePredictor(Predictor):
    """An engine that is slow or breaks when it is told to."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__(predictor._forward_fn, predictor.card)
        self.may_proceed = threading.Event()
        self.broken = False
        self.may_proceed.set()

    def predict_batch(self, cells: NDArray[np.uint8]) -> PredictionBatch:
        """Answer, once it may."""
        assert self.may_proceed.wait(20)
        if self.broken:
            raise RuntimeError("the runtime failed")
        return super().predict_batch(cells)


@pytest.fixture
def moody(predictor: Predictor) -> ControllablePredictor:
    return ControllablePredictor(predictor)


@pytest.fixture
def service(moody: ControllablePredictor) -> Iterator[Service]:
    made = Service(moody)
    yield made
    moody.may_proceed.set()
    made.close()


async def call_app(app: Any, method: str, path: str, body: bytes = b"", stall_upload: bool = False) -> tuple[int, str]:
    """Return status and text of an answer; with `stall_upload` the body's second half never comes."""
    parts = [body[: len(body) // 2], body[len(body) // 2 :]]
    status, text = 0, b""

    async def receive() -> dict[str, Any]:
        if parts and not (stall_upload and len(parts) == 1):
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
        await asyncio.sleep(30)
        raise AssertionError("nobody cut it off")

    async def send(message: Any) -> None:
        nonlocal status, text
        status = message.get("status", status)
        text += message.get("body", b"")

    path, _, query = path.partition("?")
    headers = [(b"host", b"localhost:1"), (b"content-type", CONTENT_TYPE.encode())]
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": headers,
    }
    scope |= {
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
    }
    await app(scope, receive, send)
    return status, text.decode()


def test_a_slow_model_is_given_up_and_answers_again_later(service: Service, moody: ControllablePredictor) -> None:
    app = create_app(service, [], limits=SHORT_LIMITS, batch_limits=SHORT_LIMITS)
    moody.may_proceed.clear()
    status, text = asyncio.run(call_app(app, "POST", "/predict", BODY))
    assert status == 504
    assert "took too long" in json.loads(text)["error"]
    status, text = asyncio.run(call_app(app, "POST", "/predict/batch", BODY))
    assert status == 200
    *rows, last = [json.loads(line) for line in text.splitlines()]
    assert last["done"] is False
    assert "took too long" in last["error"]
    assert last["n_rows"] == len(rows)
    moody.may_proceed.set()
    status, text = asyncio.run(call_app(app, "POST", "/predict", BODY))
    assert status == 200
    assert [result["error"] is None for result in json.loads(text)["results"]] == [True, False]


def test_a_broken_model_is_said_and_not_healthy(service: Service, moody: ControllablePredictor) -> None:
    app = create_app(service, [])
    assert asyncio.run(call_app(app, "GET", "/health")) == (200, '{"status":"ok"}')
    moody.broken = True
    status, text = asyncio.run(call_app(app, "GET", "/health"))
    assert (status, json.loads(text)["status"]) == (503, "failing")
    with pytest.raises(RuntimeError, match="the runtime failed"):  # for the server's own output
        asyncio.run(call_app(app, "POST", "/predict", BODY))
    moody.broken = False
    assert asyncio.run(call_app(app, "GET", "/health"))[0] == 200
    assert 'path="/predict",status="500"' in asyncio.run(call_app(app, "GET", "/metrics"))[1]


def test_a_full_queue_and_full_memory_are_503(
    service: Service, moody: ControllablePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(service, [], limits=SHORT_LIMITS)
    moody.may_proceed.clear()
    service.batcher._max_queue_length = 0
    status, text = asyncio.run(call_app(app, "POST", "/predict", BODY))
    assert status == 503
    assert "busy" in json.loads(text)["error"]
    service.batcher._max_queue_length = 10
    moody.may_proceed.set()
    assert asyncio.run(call_app(app, "POST", "/predict", BODY))[0] == 200
    monkeypatch.setattr(limits.MemoryBudget.__init__, "__defaults__", (len(BODY) - 1,))
    full = create_app(service, [])
    for _ in range(3):  # each gives back what it took
        status, text = asyncio.run(call_app(full, "POST", "/predict", BODY))
        assert status == 503
        assert "as many uploads as it can" in json.loads(text)["error"]


def test_an_upload_that_stalls_is_cut_off(service: Service) -> None:
    app = create_app(service, [], limits=SHORT_LIMITS)
    status, text = asyncio.run(call_app(app, "POST", "/predict", BODY, stall_upload=True))
    assert status == 408
    assert "too slowly" in json.loads(text)["error"]


def test_files_that_are_not_read_in_time_have_their_own_error(service: Service) -> None:
    app = create_app(service, [], batch_limits=RequestLimits(timeout_s=30, max_cells=0))
    *rows, last = asyncio.run(call_app(app, "POST", "/predict/batch", BODY))[1].splitlines()
    assert json.loads(last)["n_rows"] == 2
    assert "a.png brings the upload above 0 cells" in json.loads(rows[0])["error"]


def test_a_host_that_was_chosen_may_have_any_name(service: Service) -> None:
    async def host(app: Any, name: bytes) -> int:
        status = 0

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": "/version",
            "query_string": b"",
            "headers": [(b"host", name)],
        }
        scope |= {"http_version": "1.1", "scheme": "http", "root_path": "", "asgi": {"version": "3.0"}}
        await app(scope, receive, send)
        return status

    assert asyncio.run(host(create_app(service, []), b"cells.example:80")) == 403
    assert asyncio.run(host(create_app(service, [], loopback_only=False), b"cells.example:80")) == 200
    for name in (b"localhost", b"127.0.0.1:9", b"[::1]:9", b"LOCALHOST:8000"):
        assert asyncio.run(host(create_app(service, []), name)) == 200
    for name in (b"", b"localhost.evil.example", b"127.0.0.1.evil.example:80", b"localhost:80@evil"):
        assert asyncio.run(host(create_app(service, []), name)) == 403
