"""Latency of single cells in `nephros serve` while other clients upload files that ask for as much work as they can."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish
from benchmarks.serving import BOUNDARY, percentiles_ms, request_bodies, server
from benchmarks.workloads import load_train_split

QUICK_UPLOADS = ("circular pages", "claimed sizes", "small images")
PAUSE_S = 0.02
"""Between two cells."""


def latencies(port: int, requests: list[bytes], seconds: float) -> list[float]:
    """Return the seconds that requests of one cell take, sent one after the other on new connections."""
    result: list[float] = []
    end = time.perf_counter() + seconds
    while len(result) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        with contextlib.closing(connection):
            headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
            connection.request("POST", "/predict", requests[len(result) % len(requests)], headers)
            response = connection.getresponse()
            body = response.read()
        result.append(time.perf_counter() - start)
        if response.status != 200 or b'"error":null' not in body:
            raise RuntimeError(f"a request failed: {body.decode()}")
        time.sleep(PAUSE_S)
    return result


@contextlib.contextmanager
def hostile_clients(port: int, uploads: tuple[str, ...]) -> Iterator[dict[str, list[list[int]]]]:
    """Within the block, send uploads of `tests/server/hostile_files.py` again and again; fill in their responses at its end."""
    command = [sys.executable, "-m", "tests.server.hostile_clients", str(port), *uploads]
    responses: dict[str, list[list[int]]] = {}
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as clients:
        assert clients.stdout is not None
        json.loads(clients.stdout.readline())  # all uploads are made
        yield responses
        responses.update(json.loads(clients.communicate()[0]))


def row(what: str, turns: list[list[float]], responses: dict[str, list[list[int]]] | None = None) -> Row:
    """Return percentiles in milliseconds, the longest wait, and how many responses the other clients got."""
    result: Row = {"what": what, "requests": sum(map(len, turns)), **percentiles_ms(turns)}
    result["max_ms"] = 1000 * max(map(max, turns))
    if responses is not None:
        result |= {"other_clients": len(responses), "their_responses": sum(map(len, responses.values()))}
    return result


def measure(config: BenchmarkConfig, requests: list[bytes]) -> list[Row]:
    """Return a row for a quiet server and one for the same server under siege."""
    uploads = QUICK_UPLOADS if config.quick else ()
    with server(dynamic_batching=True) as port:
        latencies(port, requests, config.seconds / 2)
        quiet = [latencies(port, requests, config.seconds) for _ in range(config.repeats)]
        with hostile_clients(port, uploads) as responses:
            besieged = [latencies(port, requests, config.seconds) for _ in range(config.repeats)]
    return [row("quiet", quiet), row("besieged", besieged, responses)]


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.set_defaults(seconds=6.0)
    config = parse_config(parser, "neighbors")
    if config.device.type != "cpu":
        parser.error("this benchmark runs on the CPU: use --device cpu.")
    split, data = load_train_split(config)
    rows = measure(config, request_bodies(split.images[:64]))
    publish(config, f"nephros serve, one cell at a time beside hostile clients on the same machine, {data}", rows, data)


if __name__ == "__main__":
    main()
