"""Who does a study's tasks: this process itself, or long-lived processes on this machine; cluster.py has a third."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from nephros.errors import UserError
from nephros.training.history import Epoch
from nephros.tuning.study_state import Key
from nephros.tuning.trial import Bench, Outcome, Task, outcome_from_dict


@dataclass(frozen=True)
class EpochDone:
    """A configuration has been trained for one more epoch, which is safe in its checkpoint."""

    key: Key
    row: Epoch


@dataclass(frozen=True)
class Lost:
    """The process that worked on a task is gone; the configuration's last checkpoint is not."""

    key: Key


Event = EpochDone | Outcome | Lost
Hear = Callable[[Event], None]


class Pool(Protocol):
    """Does tasks, several at once; what it answers does not depend on how many."""

    size: int
    """Tasks that run at once."""

    def start(self, task: Task) -> None:
        """Take a task; at most `size` may be out at once."""

    def wait(self, hear: Hear, seconds: float) -> None:
        """Tell `hear` of what happened, waiting at most so long for the first event."""

    def close(self) -> None:
        """Stop whatever is running; epochs in flight are lost."""


class _Stopped(BaseException):
    """Carries the listener's own error past the trial, which would take any Exception for the configuration's."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Here:
    """One task at a time, in this process."""

    size = 1

    def __init__(self, bench: Bench, threads: int) -> None:
        self._bench, self._threads = bench, threads
        self._task: Task | None = None

    def start(self, task: Task) -> None:
        """Take a task, to be done in `wait`."""
        self._task = task

    def wait(self, hear: Hear, seconds: float) -> None:
        """Do the task."""
        task, self._task = self._task, None
        if task is None:
            return
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)

        def tell(row: Epoch) -> None:
            try:
                hear(EpochDone(task.key, row))
            except Exception as error:
                raise _Stopped(error) from None

        try:
            hear(self._bench.advance(task, tell))
        except _Stopped as stopped:
            raise stopped.error from None
        finally:
            torch.set_num_threads(before)

    def close(self) -> None:
        """Nothing runs between calls."""


class Idle:
    """Does nothing: for a study whose scores are all in, and which only needs to be settled."""

    size = 0

    def start(self, task: Task) -> None:
        """Never asked to."""
        raise NotImplementedError

    def wait(self, hear: Hear, seconds: float) -> None:
        """Have nothing to tell."""

    def close(self) -> None:
        """Have nothing to stop."""


class Processes:
    """Long-lived processes of nephros.tuning.worker, spoken to in lines of JSON; a dead one is replaced."""

    def __init__(self, size: int, setup: dict[str, Any]) -> None:
        """Start them; `setup` is what worker.main says it is."""
        self.size, self._setup = size, setup
        self._events: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        self._stillborn = 0
        """Workers in a row that died before they were ready."""
        self._workers = [self._hire(place) for place in range(size)]

    def _hire(self, place: int) -> _Worker:
        return _Worker(place, self._setup, self._events)

    @property
    def pids(self) -> list[int]:
        """Process numbers, for whoever watches them."""
        return [worker.process.pid for worker in self._workers]

    def start(self, task: Task) -> None:
        """Give the task to an idle worker."""
        next(worker for worker in self._workers if worker.task is None).give(task)

    def wait(self, hear: Hear, seconds: float) -> None:
        """Pass on what the workers say; OSError or UserError when one can't work here at all."""
        until = time.monotonic() + seconds
        heard = False
        while not heard:
            try:
                worker, said = self._events.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return
            heard = self._pass_on(worker, said, hear)

    def _pass_on(self, worker: _Worker, said: dict[str, Any] | None, hear: Hear) -> bool:
        if said is None:
            return self._replace(worker, hear)
        if "ready" in said:
            self._stillborn = 0
            worker.ready = True
            return False
        if "trouble" in said:
            if said["errno"] is not None:
                raise OSError(said["errno"], said["trouble"], said["file"])
            raise UserError(said["trouble"])
        if "row" in said:
            bracket, index = said["key"]
            hear(EpochDone((bracket, index), Epoch(**said["row"])))
            return True
        worker.task = None
        hear(outcome_from_dict(said["outcome"]))
        return True

    def _replace(self, worker: _Worker, hear: Hear) -> bool:
        """Put a new worker in the place of a dead one; one that had not begun hands its task on."""
        worker.hang_up()
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn > 3 + self.size:
                raise UserError(
                    "The worker processes die while they start, perhaps for lack of memory: use fewer --workers."
                )
        heir = self._workers[worker.place] = self._hire(worker.place)
        if worker.task is None:
            return False
        if not worker.ready:
            heir.give(worker.task)
            return False
        hear(Lost(worker.task.key))
        return True

    def close(self) -> None:
        """Stop all workers at once."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
            worker.hang_up()


class _Worker:
    """One process and the thread that listens to it."""

    def __init__(
        self, place: int, setup: dict[str, Any], events: queue.Queue[tuple[_Worker, dict[str, Any] | None]]
    ) -> None:
        self.place, self.ready = place, False
        self.task: Task | None = None
        environment = dict(os.environ)
        if setup["device"] == "cuda":
            environment["CUDA_VISIBLE_DEVICES"] = _gpu(place)
        threads = str(setup["threads"])
        environment |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nephros.tuning.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            # A terminal's Ctrl-C is the driver's to answer.
            start_new_session=True,
        )
        self._events = events
        self._send(setup)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def give(self, task: Task) -> None:
        self.task = task
        self._send(dataclasses.asdict(task))

    def _send(self, values: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died, which its silence will tell
            self.process.stdin.write(json.dumps(values) + "\n")
            self.process.stdin.flush()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("}\n"):  # a process killed while it wrote leaves half a line
                self._events.put((self, json.loads(line)))
        self.process.wait()
        self._events.put((self, None))

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._listener.join()
        self.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


def _gpu(place: int) -> str:
    """Return the GPU for the worker at a place: they take turns."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    return seen.split(",")[place % len(seen.split(","))]
