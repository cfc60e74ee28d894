"""Dynamic batching: cells of several requests share one call of the network, which takes little longer than a single cell."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nephros.inference.predictor import PredictionBatch
from nephros.server.limits import RequestRejected

MAX_BATCH = 256
"""Cells per call; a request submits its cells in chunks of at most this size."""
MAX_DELAY_S = 0.002
"""Seconds that cells wait for more cells while other requests are being read."""
MAX_QUEUE_LENGTH = 512
"""Chunks that may wait; a request has one in the queue at a time."""


@dataclass
class _Job:
    cells: NDArray[np.uint8]
    future: Future[PredictionBatch] = field(default_factory=Future)


class Batcher:
    """A queue of cells, and the one thread that runs the network on them."""

    def __init__(
        self,
        predict: Callable[[NDArray[np.uint8]], PredictionBatch],
        *,
        dynamic_batching: bool = True,
        max_queue_length: int = MAX_QUEUE_LENGTH,
    ) -> None:
        """Start the thread.

        Args:
            predict: `Predictor.predict_batch`, or a function like it.
            dynamic_batching: False makes each job a call of its own, to measure what batching gains.
            max_queue_length: jobs that may wait before more are rejected.
        """
        self._predict, self._dynamic_batching, self._max_queue_length = predict, dynamic_batching, max_queue_length
        self._queue: deque[_Job] = deque()
        self._condition = threading.Condition()
        self._n_expected = 0
        self._closed = False
        self.n_calls = self.n_cells = 0
        """Calls of the network so far, and the cells in them."""
        self._thread = threading.Thread(target=self._run, name="nephros-batches", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Return the number of waiting jobs."""
        return len(self._queue)

    @contextmanager
    def expect_more(self) -> Iterator[None]:
        """Announce that cells will come soon: within the block, the next batch waits a moment for them."""
        with self._condition:
            self._n_expected += 1
        try:
            yield
        finally:
            with self._condition:
                self._n_expected -= 1
                self._condition.notify()

    def submit(self, cells: NDArray[np.uint8]) -> Future[PredictionBatch]:
        """Queue (n, h, w) or (n, h, w, c) cells and return a future of their predictions.

        A future that is cancelled before its turn costs nothing.

        Raises:
            RequestRejected: too many jobs are waiting, or the batcher is closed.
        """
        job = _Job(cells)
        with self._condition:
            if self._closed:
                raise _shutting_down()
            if len(self._queue) >= self._max_queue_length:
                raise RequestRejected(503, "The server is busy: try again in a few seconds.")
            self._queue.append(job)
            self._condition.notify()
        return job.future

    def close(self) -> None:
        """Stop the thread after its current call, and reject the jobs that still wait."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()
        for job in self._queue:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(_shutting_down())

    def _run(self) -> None:
        while jobs := self._next_batch():
            active = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if not active:
                continue
            try:
                predictions = self._predict(np.concatenate([job.cells for job in active]))
            except Exception as error:  # any error of the runtime goes to those who wait; the thread goes on
                for job in active:
                    job.future.set_exception(error)
                continue
            self.n_calls += 1
            self.n_cells += len(predictions)
            start = 0
            for job in active:
                job.future.set_result(predictions[start : start + len(job.cells)])
                start += len(job.cells)

    def _next_batch(self) -> list[_Job]:
        """Return the jobs of the next call; an empty list once the batcher is closed."""
        with self._condition:
            while not self._queue and not self._closed:
                self._condition.wait()
            if self._closed:
                return []
            if not self._dynamic_batching:
                return [self._queue.popleft()]
            deadline = time.monotonic() + MAX_DELAY_S
            while self._n_expected and sum(len(job.cells) for job in self._queue) < MAX_BATCH:
                if (remaining := deadline - time.monotonic()) <= 0:
                    break
                self._condition.wait(remaining)
            batch = [self._queue.popleft()]
            n_cells = len(batch[0].cells)
            while self._queue and (n_cells := n_cells + len(self._queue[0].cells)) <= MAX_BATCH:
                batch.append(self._queue.popleft())
            return batch


def _shutting_down() -> RequestRejected:
    return RequestRejected(503, "The server is shutting down.")
