"""How long after a label the gallery has its new order: in the library, and over HTTP as a page asks for it."""

from __future__ import annotations

import http.client
import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.annotation_project import make_project
from benchmarks.common import Row
from benchmarks.serving import server
from nephros.annotation.filters import Filters
from nephros.annotation.model import AnnotationModel
from nephros.annotation.project import Project
from nephros.data.dataset import Dataset

N_CELLS, N_LABELS, N_TIMED = 40_000, 500, 200
PAUSE_S = 0.3
"""Between two labels, while the annotator looks at the next cell; the cross-validation begins meanwhile."""


def latency_rows(dataset: Dataset, *, quick: bool) -> list[Row]:
    """Return the time from a label to the new order of all cells."""
    n_cells, n_labels, n_timed = (600, 40, 5) if quick else (N_CELLS, N_LABELS, N_TIMED)
    with tempfile.TemporaryDirectory() as folder:
        project, truth = make_project(Path(folder), dataset, n_cells)
        first = np.random.default_rng(0).choice(project.n_cells, n_labels, replace=False).tolist()
        project.labels.apply([(cell, int(truth[cell])) for cell in first], "annotator")
        shared = {"cells": project.n_cells, "labels": n_labels}
        rows = [library_row(project, truth, n_timed) | shared]
        project.close()
        with server(project=str(project.root)) as port:
            rows.append(http_row(port, truth, n_labels + n_timed, n_timed) | shared)
    return rows


def library_row(project: Project, truth: NDArray[np.int64], n_timed: int) -> Row:
    """Return the latency from the call that saves a label to the order that the head has, which has seen it.

    The processor time until then is that of all threads, and tells what a machine with nothing else to do needs.
    """
    published = threading.Event()
    model = AnnotationModel(project, project.load_predictor())
    model.add_listener(lambda _: published.set())

    def wait(condition: Callable[[], bool]) -> None:
        while not condition():
            published.wait(1)
            published.clear()

    start = time.perf_counter()
    model.start()
    wait(lambda: len(model.state.space) == project.n_cells)
    features_s = time.perf_counter() - start
    wait(lambda: model.state.has_current_review)
    n_labels, waits, cpu_times = model.state.n_labels, list[float](), list[float]()
    for i in range(n_timed):
        cell = int(model.order("uncertainty", Filters(unlabeled=True))[0])
        start, cpu_start = time.perf_counter(), time.process_time()
        project.labels.apply([(cell, int(truth[cell]))], "annotator")
        model.wake()
        wait(lambda i=i: model.state.n_labels > n_labels + i)  # type: ignore[misc]
        model.order("uncertainty")
        waits.append(time.perf_counter() - start)
        cpu_times.append(time.process_time() - cpu_start)
        time.sleep(PAUSE_S)
    model.close()
    p50, p95 = 1000 * np.percentile(cpu_times, (50, 95))
    row: Row = {"cpu_p50_ms": float(p50), "cpu_p95_ms": float(p95), "features_s": features_s}
    return _summary("label to new order", waits) | row


def http_row(port: int, truth: NDArray[np.int64], n_labels: int, n_timed: int) -> Row:
    """Return the latency from sending a label to the last byte of the new order, in two requests as a page sends them.

    `outdated` says how many of these orders were not those of a head that had seen the label.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def request(method: str, path: str, body: object = None, token: str = "") -> bytes:
        headers = {"Content-Type": "application/json", "X-Nephros-Token": token}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(content.decode())
        return content

    def is_reviewed(project: dict[str, Any], n_labels: int) -> bool:
        model = project["model"]
        counted = sum(recall["n_labels"] for recall in model["recalls"])
        return bool(model["state"] == "ready" and counted == n_labels)

    while not is_reviewed(project := json.loads(request("GET", "/project")), n_labels):
        time.sleep(0.1)
    waits, n_outdated, path = list[float](), 0, "/project/order?sort=uncertainty"
    for _ in range(n_timed):
        cell = int(np.frombuffer(request("GET", f"{path}&filter=unlabeled"), "<u4")[0])
        body = {"annotator": "annotator", "changes": [{"cell": cell, "class": int(truth[cell])}]}
        start = time.perf_counter()
        request("POST", "/project/labels", body, project["token"])
        order = request("GET", path)
        waits.append(time.perf_counter() - start)
        time.sleep(PAUSE_S)
        n_outdated += request("GET", path) != order
    return _summary("label to new order, over HTTP", waits) | {"outdated": n_outdated}


def _summary(what: str, waits: list[float]) -> Row:
    p50, p95, longest = 1000 * np.percentile(waits, (50, 95, 100))
    return {"what": what, "p50_ms": float(p50), "p95_ms": float(p95), "max_ms": float(longest)}
