"""Counts of what the server did, in Prometheus's text format 0.0.4."""

from __future__ import annotations

import threading
from collections import Counter

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds; upper ends of the latency's buckets."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ServerMetrics:
    """Counters that any thread may add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._n_predictions = self._n_errors = 0

    def record_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` is a route, not what a client made up."""
        with self._lock:
            self._requests[path, status] += 1
            self._seconds[path] += seconds  # type: ignore[assignment]
            for bound in LATENCY_BUCKETS:
                if seconds <= bound:
                    self._buckets[path, bound] += 1

    def record_predictions(self, n_predictions: int, n_errors: int) -> None:
        """Count cells that got an answer, and rows that got an error."""
        with self._lock:
            self._n_predictions += n_predictions
            self._n_errors += n_errors

    def render(self, queue_length: int, n_calls: int, n_cells: int) -> str:
        """Return everything; with the queue's length, `n_calls` those of the network and `n_cells` what was in them."""
        with self._lock:
            lines = _metric_header("nephros_requests_total", "counter", "Requests by route and HTTP status.")
            for (path, status), count in sorted(self._requests.items()):
                lines.append(f'nephros_requests_total{{path="{path}",status="{status}"}} {count}')
            lines += _metric_header(
                "nephros_request_seconds", "histogram", "From the request's first byte to the answer's last."
            )
            for path in sorted(self._seconds):
                count = sum(n for (there, _), n in self._requests.items() if there == path)
                for bound in LATENCY_BUCKETS:
                    n = self._buckets[path, bound]
                    lines.append(f'nephros_request_seconds_bucket{{path="{path}",le="{bound:g}"}} {n}')
                lines.append(f'nephros_request_seconds_bucket{{path="{path}",le="+Inf"}} {count}')
                lines.append(f'nephros_request_seconds_sum{{path="{path}"}} {self._seconds[path]:.6f}')
                lines.append(f'nephros_request_seconds_count{{path="{path}"}} {count}')
            rest = (
                ("nephros_images_total", "counter", "Cells that got an answer.", self._n_predictions),
                ("nephros_errors_total", "counter", "Files or cells that got an error instead.", self._n_errors),
                ("nephros_network_calls_total", "counter", "Calls of the network.", n_calls),
                (
                    "nephros_network_cells_total",
                    "counter",
                    "Cells in those calls; over calls: the mean batch.",
                    n_cells,
                ),
                ("nephros_queue_length", "gauge", "Parts of requests that wait for the network.", queue_length),
            )
        for name, kind, help_text, value in rest:
            lines += [*_metric_header(name, kind, help_text), f"{name} {value}"]
        return "\n".join(lines) + "\n"


def _metric_header(name: str, kind: str, help_text: str) -> list[str]:
    return [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
