"""Dynamic batching: cells of several requests share one call of the network, which takes little longer than a single cell."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from nephros.inference.prediction_batch import PredictionBatch
from nephros.server.limits import RequestRejected

FIRST_BATCH, MAX_BATCH = 4, 256
"""Cells per call at the beginning, until the network's speed is known, and at most; a request submits no more at a time."""
TARGET_CALL_S = 0.05
"""Seconds that a call shall take: a single cell waits for the call under way when it arrives."""
MAX_DELAY_S = 0.002
"""Seconds that cells wait for more cells while other requests are being read."""
SMALL_JOB_CELLS = 16
"""Cells up to which a job may overtake larger ones; between two calls for small jobs, there is one for the others."""
MAX_QUEUE_LENGTH = 512
"""Chunks that may wait; a request has one in the queue at a time."""


class Receiver(Protocol):
    """Takes the result of a job, as a `concurrent.futures.Future` does, in the batcher's thread."""

    def set_running_or_notify_cancel(self) -> bool:
        """Return whether the job is still to be done."""

    def set_result(self, result: PredictionBatch, /) -> None:
        """Take the predictions."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Take an error."""


@dataclass(eq=False)
class _Job:
    cells: NDArray[np.uint8]
    """Those that are not predicted yet."""
    future: Receiver
    parts: list[PredictionBatch] = field(default_factory=list)
    is_running: bool = False

    def start(self) -> bool:
        """Return whether the job is to be done: it has been started, or it has not been cancelled."""
        self.is_running = self.is_running or self.future.set_running_or_notify_cancel()
        return self.is_running

    def add(self, predictions: PredictionBatch) -> None:
        """Add the predictions of the next cells; after the last, complete the future."""
        self.parts.append(predictions)
        self.cells = self.cells[len(predictions) :]
        if not len(self.cells):
            self.future.set_result(_join(self.parts))


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
        self._large_waited = False
        self.max_batch = FIRST_BATCH
        """Cells of the next call, at most."""
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

    @overload
    def submit(self, cells: NDArray[np.uint8]) -> Future[PredictionBatch]: ...
    @overload
    def submit(self, cells: NDArray[np.uint8], receiver: Receiver) -> None: ...

    def submit(self, cells: NDArray[np.uint8], receiver: Receiver | None = None) -> Future[PredictionBatch] | None:
        """Queue (n, h, w) or (n, h, w, c) cells and return a future of their predictions, unless a receiver gets them.

        A future that is cancelled before its turn costs nothing.

        Raises:
            RequestRejected: too many jobs are waiting, or the batcher is closed.
        """
        future = Future[PredictionBatch]() if receiver is None else None
        job = _Job(cells, future if receiver is None else receiver)  # type: ignore[arg-type]
        with self._condition:
            if self._closed:
                raise _shutting_down()
            if len(self._queue) >= self._max_queue_length:
                raise RequestRejected(503, "The server is busy: try again in a few seconds.")
            self._queue.append(job)
            self._condition.notify()
        return future

    def close(self) -> None:
        """Stop the thread after its current call, and reject the jobs that still wait."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()
        for job in self._queue:
            if job.start():
                job.future.set_exception(_shutting_down())

    def _run(self) -> None:
        while jobs := self._next_batch():
            active = [(job, n_cells) for job, n_cells in jobs if job.start()]
            if not active:
                continue
            start = time.monotonic()
            try:
                predictions = self._predict(np.concatenate([job.cells[:n_cells] for job, n_cells in active]))
            except Exception as error:  # any error of the runtime goes to those who wait; the thread goes on
                for job, _ in active:
                    job.future.set_exception(error)
                continue
            self._adapt_size(len(predictions), time.monotonic() - start)
            self.n_calls += 1
            self.n_cells += len(predictions)
            position = 0
            for job, n_cells in active:
                job.add(predictions[position : position + n_cells])
                position += n_cells
            with self._condition:  # what is left of a job waits behind the others
                self._queue += [job for job, _ in active if len(job.cells)]

    def _adapt_size(self, n_cells: int, seconds: float) -> None:
        """Let the next calls have as many cells as take the target time; a single slow call no more than halves them.

        Where the processor is busy that is one cell: a call with more would keep a single cell waiting.
        """
        n_cells_in_time = n_cells * TARGET_CALL_S / max(seconds, 1e-6)
        self.max_batch = round(min(max(n_cells_in_time, 1, self.max_batch / 2), MAX_BATCH))

    def _next_batch(self) -> list[tuple[_Job, int]]:
        """Return the jobs of the next call, and how many cells of each it takes; an empty list once the batcher is closed."""
        with self._condition:
            while not self._queue and not self._closed:
                self._condition.wait()
            if self._closed:
                return []
            if not self._dynamic_batching:
                job = self._queue.popleft()
                return [(job, len(job.cells))]
            deadline = time.monotonic() + MAX_DELAY_S
            while self._n_expected and sum(len(job.cells) for job in self._queue) < self.max_batch:
                if (remaining := deadline - time.monotonic()) <= 0:
                    break
                self._condition.wait(remaining)
            self._bring_small_jobs_forward()
            batch: list[tuple[_Job, int]] = []
            n_left = self.max_batch
            while self._queue and n_left:
                job = self._queue.popleft()
                batch.append((job, min(n_left, len(job.cells))))
                n_left -= batch[-1][1]
            return batch

    def _bring_small_jobs_forward(self) -> None:
        """Order the queue so that a few cells don't wait for the many of other requests, nor these for ever."""
        small = [job for job in self._queue if len(job.cells) <= SMALL_JOB_CELLS]
        large = [job for job in self._queue if len(job.cells) > SMALL_JOB_CELLS]
        small_first = bool(small) and not (large and self._large_waited)
        self._large_waited = small_first and bool(large)
        self._queue = deque(small + large if small_first else large + small)


def _join(parts: list[PredictionBatch]) -> PredictionBatch:
    """Return the predictions of several calls as one."""
    if len(parts) == 1:
        return parts[0]
    probabilities, features, maps = (
        None if values[0] is None else np.concatenate(values)
        for values in (
            [getattr(part, name) for part in parts] for name in ("probabilities", "features", "class_activation_maps")
        )
    )
    assert probabilities is not None
    ood_reasons = tuple(reasons for part in parts for reasons in part.ood_reasons)
    return PredictionBatch(probabilities, features, maps, np.concatenate([part.is_ood for part in parts]), ood_reasons)


def _shutting_down() -> RequestRejected:
    return RequestRejected(503, "The server is shutting down.")
