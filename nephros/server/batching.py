"""Cells of several requests answered in one call of the network, which costs little more than those of one."""

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
"""Cells in one call; a request brings its own in parts of at most so many."""
MAX_DELAY_S = 0.002
"""Seconds that cells wait for those of requests that are being read; none where there are no such."""
MAX_QUEUE_LENGTH = 512
"""Parts that may wait; a request has one waiting at a time."""


@dataclass
class _Job:
    cells: NDArray[np.uint8]
    future: Future[PredictionBatch] = field(default_factory=Future)


class Batcher:
    """A queue before the engine, and the one thread that empties it."""

    def __init__(
        self,
        predict: Callable[[NDArray[np.uint8]], PredictionBatch],
        *,
        dynamic_batching: bool = True,
        max_queue_length: int = MAX_QUEUE_LENGTH,
    ) -> None:
        """Take `Predictor.predict_batch` or the like; without `dynamic_batching`
        each job is a call of its own, to measure what merging gains."""
        self._predict, self._dynamic_batching, self._max_queue_length = predict, dynamic_batching, max_queue_length
        self._queue: deque[_Job] = deque()
        self._condition = threading.Condition()
        self._n_expected = 0
        self._closed = False
        self.n_calls = self.n_cells = 0
        """Of the network so far, and cells in them."""
        self._thread = threading.Thread(target=self._run, name="nephros-batches", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Return how many jobs are waiting."""
        return len(self._queue)

    @contextmanager
    def expect_more(self) -> Iterator[None]:
        """Within the block a request's files are being read, whose cells are worth a moment's wait."""
        with self._condition:
            self._n_expected += 1
        try:
            yield
        finally:
            with self._condition:
                self._n_expected -= 1
                self._condition.notify()

    def submit(self, cells: NDArray[np.uint8]) -> Future[PredictionBatch]:
        """Return what will hold the Answers for (n, h, w) or (n, h, w, c) cells; Refused when too many are waiting.

        A future that is cancelled before its turn costs nothing.
        """
        job = _Job(cells)
        with self._condition:
            if self._closed:
                raise RequestRejected(503, "The server is ending.")
            if len(self._queue) >= self._max_queue_length:
                raise RequestRejected(503, "The server is busy: try again in a few seconds.")
            self._queue.append(job)
            self._condition.notify()
        return job.future

    def close(self) -> None:
        """End the thread after the call it is in; what still waits is refused."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()
        for job in self._queue:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(RequestRejected(503, "The server is ending."))

    def _run(self) -> None:
        while jobs := self._next_batch():
            active = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if not active:
                continue
            try:
                predictions = self._predict(np.concatenate([job.cells for job in active]))
            except Exception as error:  # whatever the runtime raises belongs to those who wait, not to this thread
                for job in active:
                    job.future.set_exception(error)
                continue
            self.n_calls += 1
            self.n_cells += len(predictions)
            start = 0
            for job in active:
                job.future.set_result(_slice_batch(predictions, start, start + len(job.cells)))
                start += len(job.cells)

    def _next_batch(self) -> list[_Job]:
        """Return the jobs of the next call, or none at the end."""
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


def _slice_batch(predictions: PredictionBatch, start: int, end: int) -> PredictionBatch:
    features, maps = predictions.features, predictions.class_activation_maps
    return PredictionBatch(
        predictions.probabilities[start:end],
        None if features is None else features[start:end],
        None if maps is None else maps[start:end],
        predictions.is_ood[start:end],
        predictions.ood_reasons[start:end],
    )
