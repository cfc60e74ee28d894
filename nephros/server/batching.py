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

from nephros.inference.predictor import Answers
from nephros.server.limits import Refused

MOST = 256
"""Cells in one call; a request brings its own in parts of at most so many."""
WAIT = 0.002
"""Seconds that cells wait for those of requests that are being read; none where there are no such."""
JOBS = 512
"""Parts that may wait; a request has one waiting at a time."""


@dataclass
class _Job:
    cells: NDArray[np.uint8]
    answer: Future[Answers] = field(default_factory=Future)


class Batcher:
    """A queue before the engine, and the one thread that empties it."""

    def __init__(self, answer: Callable[[NDArray[np.uint8]], Answers], *, merge: bool = True, jobs: int = JOBS) -> None:
        """Take `Engine.answer` or the like; without `merge` each job is a call of its own, to measure what merging gains."""
        self._answer, self._merge, self._most_jobs = answer, merge, jobs
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._coming = 0
        self._closed = False
        self.calls = self.cells = 0
        """Of the network so far, and cells in them."""
        self._thread = threading.Thread(target=self._work, name="nephros-batches", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Return how many jobs are waiting."""
        return len(self._jobs)

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Within the block a request's files are being read, whose cells are worth a moment's wait."""
        with self._changed:
            self._coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._coming -= 1
                self._changed.notify()

    def submit(self, cells: NDArray[np.uint8]) -> Future[Answers]:
        """Return what will hold the Answers for (n, h, w) or (n, h, w, c) cells; Refused when too many are waiting.

        A future that is cancelled before its turn costs nothing.
        """
        job = _Job(cells)
        with self._changed:
            if self._closed:
                raise Refused(503, "The server is ending.")
            if len(self._jobs) >= self._most_jobs:
                raise Refused(503, "The server is busy: try again in a few seconds.")
            self._jobs.append(job)
            self._changed.notify()
        return job.answer

    def close(self) -> None:
        """End the thread after the call it is in; what still waits is refused."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        for job in self._jobs:
            if job.answer.set_running_or_notify_cancel():
                job.answer.set_exception(Refused(503, "The server is ending."))

    def _work(self) -> None:
        while jobs := self._take():
            live = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            if not live:
                continue
            try:
                found = self._answer(np.concatenate([job.cells for job in live]))
            except Exception as error:  # whatever the runtime raises belongs to those who wait, not to this thread
                for job in live:
                    job.answer.set_exception(error)
                continue
            self.calls += 1
            self.cells += len(found)
            start = 0
            for job in live:
                job.answer.set_result(_part(found, start, start + len(job.cells)))
                start += len(job.cells)

    def _take(self) -> list[_Job]:
        """Return the jobs of the next call, or none at the end."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            if self._closed:
                return []
            if not self._merge:
                return [self._jobs.popleft()]
            end = time.monotonic() + WAIT
            while self._coming and sum(len(job.cells) for job in self._jobs) < MOST:
                if (left := end - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
            taken = [self._jobs.popleft()]
            total = len(taken[0].cells)
            while self._jobs and (total := total + len(self._jobs[0].cells)) <= MOST:
                taken.append(self._jobs.popleft())
            return taken


def _part(answers: Answers, start: int, end: int) -> Answers:
    features, maps = answers.features, answers.maps
    return Answers(
        answers.probabilities[start:end],
        None if features is None else features[start:end],
        None if maps is None else maps[start:end],
        answers.unfamiliar[start:end],
        answers.reasons[start:end],
    )
