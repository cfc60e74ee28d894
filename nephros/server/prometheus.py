"""Counts of what the server did, in Prometheus's text format 0.0.4."""

from __future__ import annotations

import threading
from collections import Counter

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds; upper ends of the latency's buckets."""
TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters that any thread may add to."""

    def __init__(self) -> None:
        self._door = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._images = self._errors = 0

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` is a route, not what a client made up."""
        with self._door:
            self._requests[path, status] += 1
            self._seconds[path] += seconds  # type: ignore[assignment]
            for bound in BOUNDS:
                if seconds <= bound:
                    self._buckets[path, bound] += 1

    def answered(self, images: int, errors: int) -> None:
        """Count cells that got an answer, and rows that got an error."""
        with self._door:
            self._images += images
            self._errors += errors

    def text(self, queue: int, calls: int, cells: int) -> str:
        """Return everything; `queue` is its present length, `calls` those of the network and `cells` what was in them."""
        with self._door:
            lines = _head("nephros_requests_total", "counter", "Requests by route and HTTP status.")
            for (path, status), count in sorted(self._requests.items()):
                lines.append(f'nephros_requests_total{{path="{path}",status="{status}"}} {count}')
            lines += _head(
                "nephros_request_seconds", "histogram", "From the request's first byte to the answer's last."
            )
            for path in sorted(self._seconds):
                count = sum(n for (there, _), n in self._requests.items() if there == path)
                for bound in BOUNDS:
                    n = self._buckets[path, bound]
                    lines.append(f'nephros_request_seconds_bucket{{path="{path}",le="{bound:g}"}} {n}')
                lines.append(f'nephros_request_seconds_bucket{{path="{path}",le="+Inf"}} {count}')
                lines.append(f'nephros_request_seconds_sum{{path="{path}"}} {self._seconds[path]:.6f}')
                lines.append(f'nephros_request_seconds_count{{path="{path}"}} {count}')
            rest = (
                ("nephros_images_total", "counter", "Cells that got an answer.", self._images),
                ("nephros_errors_total", "counter", "Files or cells that got an error instead.", self._errors),
                ("nephros_network_calls_total", "counter", "Calls of the network.", calls),
                ("nephros_network_cells_total", "counter", "Cells in those calls; over calls: the mean batch.", cells),
                ("nephros_queue_length", "gauge", "Parts of requests that wait for the network.", queue),
            )
        for name, kind, words, value in rest:
            lines += [*_head(name, kind, words), f"{name} {value}"]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, words: str) -> list[str]:
    return [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
