"""How fast `nephros serve` answers 1, 8 and 64 clients at once, with requests merged into batches and without."""

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

import numpy as np
from PIL import Image

from benchmarks.common import Row, Settings, parse, parser, publish
from benchmarks.timing import Contender, interleave, ratio, summary
from benchmarks.workloads import open_data

CLIENTS = (1, 8, 64)
MERGED = {"merged": True, "one by one": False}
SERVE = """
from nephros.workflows.serve import serve
serve(port=0, known="none", merge={merge}, say=lambda line: print(line, flush=True))
"""
BOUNDARY = "a-boundary-that-no-picture-holds"


@contextlib.contextmanager
def server(merge: bool) -> Iterator[int]:
    """Serve the model in the box in a process of its own; yield the port."""
    words = [sys.executable, "-c", SERVE.format(merge=merge)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = next((found for line in process.stdout if (found := re.search(r"http://\S+:(\d+) ", line))), None)
        if found is None:
            raise RuntimeError("the server ended before it was ready")
        try:
            yield int(found[1])
        finally:
            process.terminate()


def bodies(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> list[bytes]:
    """Return the body of a request with one cell, a PNG file, for each of the images."""
    found = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="PNG")
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="cell.png"\r\n\r\n'
        found.append(head.encode() + file.getvalue() + f"\r\n--{BOUNDARY}--\r\n".encode())
    return found


def load(port: int, clients: int, requests: list[bytes], latencies: list[list[float]]) -> Contender:
    """Return a contender: so many clients that each ask for one cell after another; each turn's latencies are added."""

    def turn(seconds: float) -> float:
        spent: list[float] = []
        failed: list[str] = []
        begin = threading.Barrier(clients + 1)

        def client(number: int) -> None:
            mine: list[float] = []
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            connection.connect()
            begin.wait()
            end, i = time.perf_counter() + seconds, number
            while not mine or time.perf_counter() < end:
                start = time.perf_counter()
                headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
                connection.request("POST", "/predict", requests[i % len(requests)], headers)
                answer = connection.getresponse()
                text = answer.read()
                mine.append(time.perf_counter() - start)
                i += clients
                if answer.status != 200 or b'"error":null' not in text:
                    failed.append(text.decode())
                    break
            connection.close()
            spent.extend(mine)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        begin.wait()
        start = time.perf_counter()
        for thread in threads:
            thread.join()
        if failed:
            raise RuntimeError(f"a client got no answer: {failed[0]}")
        latencies.append(spent)
        return len(spent) / (time.perf_counter() - start)

    return turn


def batch_size(port: int) -> float:
    """Return the mean number of cells in a call of the network since the server began."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    counts = {name: float(value) for name, value in re.findall(r"^(nephros_network_\w+) (\S+)$", text, re.MULTILINE)}
    return counts["nephros_network_cells_total"] / max(1.0, counts["nephros_network_calls_total"])


def measure(settings: Settings, requests: list[bytes]) -> list[Row]:
    """Return a row for each number of clients and each way."""
    rows: list[Row] = []
    for clients in CLIENTS:
        with contextlib.ExitStack() as stack:  # fresh servers, so that their counts are of this many clients
            ports = {name: stack.enter_context(server(merge)) for name, merge in MERGED.items()}
            latencies: dict[str, list[list[float]]] = {name: [] for name in MERGED}
            contenders = {name: load(port, clients, requests, latencies[name]) for name, port in ports.items()}
            rates = interleave(contenders, settings)
            sizes = {name: batch_size(port) for name, port in ports.items()}
        for name in MERGED:
            turns = latencies[name][1:]  # the first warmed up
            rows.append(
                {
                    "what": name,
                    "clients": clients,
                    "p50_ms": summary([1000 * float(np.percentile(turn, 50)) for turn in turns]),
                    "p95_ms": summary([1000 * float(np.percentile(turn, 95)) for turn in turns]),
                    "images_per_s": summary(rates[name]),
                    "against_one_by_one": ratio(rates[name], rates["one by one"]),
                    "cells_a_call": sizes[name],
                }
            )
    return rows


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__ or "")
    settings = parse(made, "serving")
    if settings.device.type != "cpu":
        made.error("this benchmark is of the CPU: give --device cpu.")
    split, data = open_data(settings)
    rows = measure(settings, bodies(split.images[:512]))
    publish(settings, f"nephros serve, one cell a request, clients on the same machine, {data}", rows, data)


if __name__ == "__main__":
    main()
