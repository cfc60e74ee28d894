"""The server's metrics, exported in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nephros.server.batching import Batcher

if TYPE_CHECKING:
    from nephros.server.project.session import ProjectSession

CONTENT_TYPE = CONTENT_TYPE_LATEST
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds."""


class ServerMetrics:
    """Counters of one application, in a registry of its own; any thread may add to them."""

    def __init__(self, batcher: Batcher) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "nephros_http_requests", "Requests by route and HTTP status.", ["path", "status"], registry=self._registry
        )
        self._durations = Histogram(
            "nephros_http_request_duration_seconds",
            "Seconds from the first byte of the request to the last byte of the response.",
            ["path"],
            buckets=LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._predictions = Counter("nephros_predictions", "Cells that got a prediction.", registry=self._registry)
        self._errors = Counter(
            "nephros_prediction_errors", "Cells and files that got an error instead.", registry=self._registry
        )
        self._registry.register(_BatcherCollector(batcher))

    def record_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` must be a route, never text that a client chose."""
        self._requests.labels(path, status).inc()
        self._durations.labels(path).observe(seconds)

    def record_predictions(self, n_predictions: int, n_errors: int) -> None:
        """Count cells with a prediction, and rows with an error."""
        self._predictions.inc(n_predictions)
        self._errors.inc(n_errors)

    def observe_project(self, project: ProjectSession) -> None:
        """Add the counts of a project."""
        self._registry.register(_ProjectCollector(project))

    def render(self) -> bytes:
        """Return all metrics as text."""
        return generate_latest(self._registry)


class _BatcherCollector(Collector):
    """Reads the batcher's counts when the metrics are collected."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    def collect(self) -> Iterator[Metric]:
        batcher = self._batcher
        yield CounterMetricFamily("nephros_network_calls", "Calls of the network.", batcher.n_calls)
        yield CounterMetricFamily(
            "nephros_network_cells", "Cells in those calls; divided by the calls, the mean batch size.", batcher.n_cells
        )
        yield GaugeMetricFamily("nephros_queue_length", "Chunks of cells that wait for the network.", len(batcher))


class _ProjectCollector(Collector):
    """Reads a project's counts when the metrics are collected."""

    def __init__(self, project: ProjectSession) -> None:
        self._project = project

    def collect(self) -> Iterator[Metric]:
        session = self._project
        status = session.model.status()
        yield CounterMetricFamily(
            "nephros_project_changes", "Changes of labels saved since the start.", session.n_labels_saved
        )
        yield GaugeMetricFamily("nephros_project_cells", "Cells of the project.", session.project.n_cells)
        yield GaugeMetricFamily(
            "nephros_project_cells_with_features", "Cells whose features are known.", status.features_done
        )
        yield GaugeMetricFamily("nephros_project_labels", "Cells with a label.", status.n_labels)
        yield CounterMetricFamily("nephros_project_fits", "Fits of the classifier to the labels.", status.revision)
        yield GaugeMetricFamily("nephros_project_listeners", "Pages that listen to events.", len(session.events))
