"""A client that sends one cell gets its prediction soon, whatever others send at the same time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.server.hostile_files import CELL, UPLOADS
from tests.server.live_server import LiveServer, encode_image, run_server

DURATION_S = 60.0
MAX_P95_S = 5.0
"""Far above what is measured on two idle cores (0.3 s), since tests share a machine; without lanes and processes it was 57 s."""
MAX_SERVER_BYTES = 3 << 30


def _seconds(server: LiveServer, duration: float) -> list[float]:
    """Return how long requests with one cell take, sent one after the other."""
    files = [("cell.png", encode_image(CELL))]
    seconds: list[float] = []
    end = time.monotonic() + duration
    while time.monotonic() < end:
        start = time.perf_counter()
        (result,) = server.predict(files)
        seconds.append(time.perf_counter() - start)
        assert result["error"] is None
        time.sleep(0.05)
    return seconds


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.xdist_group("machine")
def test_a_neighbor_of_all_hostile_uploads_at_once_waits_less_than_a_second() -> None:
    with run_server(["--reference-data", "none"]) as server:
        quiet = _seconds(server, 3)
        command = [sys.executable, "-m", "tests.server.hostile_clients", str(server.port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as clients:
            assert clients.stdout is not None
            assert json.loads(clients.stdout.readline()).keys() == UPLOADS.keys()
            busy = _seconds(server, DURATION_S)
            memory = _memory(server.process.pid)
            responses = json.loads(clients.communicate()[0])
        status, _, _ = server.request("GET", "/health")
        server.process.kill()
    for name, seconds in (("quiet", quiet), ("busy", busy)):
        p50, p95 = np.percentile(seconds, (50, 95))
        print(f"{name}: {len(seconds)} requests, p50 {p50:.3f} s, p95 {p95:.3f} s, longest {max(seconds):.3f} s")
    print(f"server: {memory / 1e6:,.0f} MB; responses (status, rows with a prediction, rows with an error):")
    for name, answers in responses.items():
        print(f"  {name}: {len(answers)}, the last {answers[-1] if answers else None}")
    assert np.percentile(busy, 95) < MAX_P95_S
    assert status == 200
    assert memory < MAX_SERVER_BYTES
    assert {answer[0] for answers in responses.values() for answer in answers} <= {0, 200, 503, 504}
