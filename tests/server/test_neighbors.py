"""A client that sends one cell gets its prediction while others' uploads, which take minutes, are still under way.

How long it waits is measured by `python -m benchmarks.neighbors`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.server.hostile_files import CELL, UPLOADS, jpeg_of_scans, pages
from tests.server.live_server import LiveServer, encode_image, multipart_body, run_server

N_CLIENTS, N_CELLS = 24, 30
MAX_SERVER_BYTES = 3 << 30


class SlowClient(threading.Thread):
    """Sends files to a route that allows them a quarter of an hour, and waits for the end of the response."""

    def __init__(self, server: LiveServer, body: bytes, content_type: str) -> None:
        super().__init__(daemon=True)
        self.has_sent = threading.Event()
        self._server, self._body, self._content_type = server, body, content_type

    def run(self) -> None:
        """Send the request and read the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=3600)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/predict/batch", self._body, {"Content-Type": self._content_type})
            self.has_sent.set()
            with connection.getresponse() as response:
                response.read()


@pytest.mark.slow
def test_cells_are_predicted_while_slow_uploads_are_all_pending() -> None:
    slow = [("pages.tif", pages(90_000, "lzw")), *((f"{i}.jpg", jpeg_of_scans(54, 3900)) for i in range(12))]
    body, content_type = multipart_body(slow)  # minutes of decoding on any processor
    with run_server(["--reference-data", "none"]) as server:
        clients = [SlowClient(server, body, content_type) for _ in range(N_CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            assert client.has_sent.wait(600)
        for _ in range(N_CELLS):
            (result,) = server.predict([("cell.png", encode_image(CELL))])
            assert result["error"] is None
        assert [client.is_alive() for client in clients] == [True] * N_CLIENTS
        server.process.kill()
        for client in clients:
            client.join()


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
def test_all_hostile_uploads_at_once_cost_neither_the_server_nor_a_neighbor() -> None:
    with run_server(["--reference-data", "none"]) as server:
        command = [sys.executable, "-m", "tests.server.hostile_clients", str(server.port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as clients:
            assert clients.stdout is not None
            assert json.loads(clients.stdout.readline()).keys() == UPLOADS.keys()
            for _ in range(40):
                (result,) = server.predict([("cell.png", encode_image(CELL))])
                assert result["error"] is None
            memory = _memory(server.process.pid)
            responses = json.loads(clients.communicate()[0])
        assert server.request("GET", "/health")[0] == 200
        server.process.kill()
    assert memory < MAX_SERVER_BYTES
    assert {response[0] for upload in responses.values() for response in upload} <= {0, 200, 413, 503, 504}
