"""Many clients, and clients that hang, don't read or leave: the server drops them and goes on."""

from __future__ import annotations

import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import square_images
from tests.server.live_server import File, LiveServer, encode_image, encode_npz, multipart_body, run_server

CELLS = square_images(12, 4, 9)[0]
CELL_PNG = encode_image(CELLS[0])
BODY, CONTENT_TYPE = multipart_body([("a.png", CELL_PNG)])


def _request_head(path: str, body: bytes, content_type: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _receive(connection: socket.socket) -> bytes:
    """Return some bytes, or none once the connection is closed or reset."""
    try:
        return connection.recv(1 << 16)
    except ConnectionError:
        return b""


def test_a_client_that_disconnects_midway_does_no_harm(server: LiveServer) -> None:
    head = _request_head("/predict", BODY, CONTENT_TYPE)
    for length in (0, 50, len(BODY)):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(head + BODY[:length])
    assert server.json("GET", "/health") == (200, {"status": "ok"})


@pytest.mark.parametrize("headers", [b"X: a\r\n" * 20_000, b"X: " + b"a" * 60_000 + b"\r\n"], ids=["many", "long"])
@pytest.mark.parametrize("n_parts", [1, 3])
def test_headers_that_take_long_to_parse_are_refused(server: LiveServer, headers: bytes, n_parts: int) -> None:
    head = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers + b"\r\n"
    size = -(-len(head) // n_parts)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        response = b""
        try:
            for start in range(0, len(head), size):
                client.sendall(head[start : start + size])
                time.sleep(0.01)  # so that the parts may arrive by themselves
        except ConnectionError:
            pass  # refused already
        while data := _receive(client):
            response += data
    assert b" 200 " not in response
    assert server.json("GET", "/health") == (200, {"status": "ok"})


@pytest.mark.slow
def test_200_concurrent_clients_all_get_their_results(server: LiveServer) -> None:
    files: list[File] = [("a.png", CELL_PNG), ("b.png", b"bad")]
    expected = server.predict(files)
    barrier = threading.Barrier(200)

    def gets_expected_results(_: int) -> bool:
        barrier.wait(60)
        results = server.predict(files)
        return [r["label"] for r in results] == [r["label"] for r in expected] and "damaged" in results[1]["error"]

    with ThreadPoolExecutor(200) as pool:
        assert all(pool.map(gets_expected_results, range(200)))
    assert server.json("GET", "/health")[0] == 200


@pytest.mark.slow
def test_hanging_clients_are_dropped_and_delay_nobody(server: LiveServer) -> None:
    head = _request_head("/predict", BODY, CONTENT_TYPE)
    silent, slow_head, slow_body = (socket.create_connection(("127.0.0.1", server.port)) for _ in range(3))
    slow_head.sendall(head[:40])
    slow_body.sendall(head + BODY[:100])
    assert server.predict([("a.png", CELL_PNG)])[0]["error"] is None
    start = time.monotonic()
    for client in (silent, slow_head, slow_body):
        client.settimeout(25)
        response = b""
        while part := _receive(client):
            response += part
        if client is slow_body:
            assert response.startswith(b"HTTP/1.1 408")
            assert b'{"error":' in response
        client.close()
    assert time.monotonic() - start < 20


@pytest.mark.slow
def test_a_client_that_does_not_read_is_dropped(server: LiveServer) -> None:
    body, content_type = multipart_body([("c.npz", encode_npz(images=np.repeat(CELLS, 3000, axis=0)))])
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    client.sendall(_request_head("/predict/batch", body, content_type) + body)
    with client:
        time.sleep(16)
        client.settimeout(10)
        n_received = 0
        while part := _receive(client):
            n_received += len(part)
    assert 0 < n_received < 6_000_000  # of about 8 MB, of which the buffers of the system may hold half
    assert server.json("GET", "/health")[0] == 200


@pytest.mark.slow
def test_ctrl_c_shuts_down_cleanly_while_clients_hang(exported_model: Path) -> None:
    head = _request_head("/predict", BODY, CONTENT_TYPE)
    with run_server(["--model", exported_model, "--reference-data", "none"]) as server:
        silent, midway = (socket.create_connection(("127.0.0.1", server.port)) for _ in range(2))
        with silent, midway:
            midway.sendall(head + BODY[:80])
            time.sleep(0.5)
            server.process.send_signal(signal.SIGINT)
            output = server.process.communicate(timeout=15)[0]
            assert midway.recv(1000).startswith(b"HTTP/1.1 503")
    assert output == "Server stopped.\n"  # and nothing else, such as uvicorn's messages
    assert server.process.returncode == 0
