"""Latency and throughput of `nephros serve` with 1, 8 and 64 concurrent clients, with and without dynamic batching."""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish
from benchmarks.timing import Contender, interleave, ratio, summary
from benchmarks.workloads import load_train_split

CLIENTS = (1, 8, 64)
BATCHING = {"batched": True, "unbatched": False}
SERVER_SCRIPT = """
import logging, sys
from nephros.workflows.serve import serve
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
serve(port=0, reference_data="none", **{options!r})
"""
BOUNDARY = "a-boundary-that-no-image-contains"


@contextlib.contextmanager
def server(**options: Any) -> Iterator[int]:
    """Serve the bundled model, with options of `nephros.serve`, in its own process; yield the port."""
    args = [sys.executable, "-c", SERVER_SCRIPT.format(options=options)]
    with subprocess.Popen(args, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        match = next((match for line in process.stdout if (match := re.search(r"http://\S+:(\d+) ", line))), None)
        if match is None:
            raise RuntimeError("the server ended before it was ready")
        try:
            yield int(match[1])
        finally:
            process.terminate()
            process.communicate()


def request_bodies(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> list[bytes]:
    """Return the body of a one-cell request, with a PNG file, for each of the images."""
    bodies = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="PNG")
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="cell.png"\r\n\r\n'
        bodies.append(head.encode() + file.getvalue() + f"\r\n--{BOUNDARY}--\r\n".encode())
    return bodies


def load_contender(port: int, clients: int, requests: list[bytes], latencies: list[list[float]]) -> Contender:
    """Return a contender: concurrent clients that each send one cell at a time; appends each turn's latencies in seconds."""

    def turn(seconds: float) -> float:
        turn_latencies: list[float] = []
        failures: list[str] = []
        start_barrier = threading.Barrier(clients + 1)

        def client(number: int) -> None:
            client_latencies: list[float] = []
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            connection.connect()
            start_barrier.wait()
            end, i = time.perf_counter() + seconds, number
            while not client_latencies or time.perf_counter() < end:
                start = time.perf_counter()
                headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
                connection.request("POST", "/predict", requests[i % len(requests)], headers)
                response = connection.getresponse()
                body = response.read()
                client_latencies.append(time.perf_counter() - start)
                i += clients
                if response.status != 200 or b'"error":null' not in body:
                    failures.append(body.decode())
                    break
            connection.close()
            turn_latencies.extend(client_latencies)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        start_barrier.wait()
        start = time.perf_counter()
        for thread in threads:
            thread.join()
        if failures:
            raise RuntimeError(f"a request failed: {failures[0]}")
        latencies.append(turn_latencies)
        return len(turn_latencies) / (time.perf_counter() - start)

    return turn


def mean_batch_size(port: int) -> float:
    """Return the mean number of cells per call of the network since the server started."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    counts = {name: float(value) for name, value in re.findall(r"^(nephros_network_\w+) (\S+)$", text, re.MULTILINE)}
    return counts["nephros_network_cells_total"] / max(1.0, counts["nephros_network_calls_total"])


def percentiles_ms(turns: list[list[float]]) -> Row:
    """Return ``p50_ms`` and ``p95_ms`` of latencies in seconds, summarized over turns."""
    return {f"p{q}_ms": summary([1000 * float(np.percentile(turn, q)) for turn in turns]) for q in (50, 95)}


def measure(config: BenchmarkConfig, requests: list[bytes]) -> list[Row]:
    """Return a row for each number of clients, with and without batching."""
    rows: list[Row] = []
    for clients in CLIENTS:
        with contextlib.ExitStack() as stack:  # new servers, so that their metrics cover this number of clients only
            ports = {
                name: stack.enter_context(server(dynamic_batching=dynamic_batching))
                for name, dynamic_batching in BATCHING.items()
            }
            latencies: dict[str, list[list[float]]] = {name: [] for name in BATCHING}
            contenders = {
                name: load_contender(port, clients, requests, latencies[name]) for name, port in ports.items()
            }
            rates = interleave(contenders, config)
            sizes = {name: mean_batch_size(port) for name, port in ports.items()}
        for name in BATCHING:
            turns = latencies[name][1:]  # the first warmed up
            rows.append(
                {
                    "what": name,
                    "clients": clients,
                    **percentiles_ms(turns),
                    "images_per_s": summary(rates[name]),
                    "speedup_over_unbatched": ratio(rates[name], rates["unbatched"]),
                    "cells_per_call": sizes[name],
                }
            )
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    config = parse_config(parser, "serving")
    if config.device.type != "cpu":
        parser.error("this benchmark runs on the CPU: use --device cpu.")
    split, data = load_train_split(config)
    rows = measure(config, request_bodies(split.images[:512]))
    publish(config, f"nephros serve, one cell per request, clients on the same machine, {data}", rows, data)


if __name__ == "__main__":
    main()
