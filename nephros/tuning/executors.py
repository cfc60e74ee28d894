"""Executors of a study's tasks: in this process, or in worker processes on this machine; ray_executor.py has a third."""

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

import torch

from nephros.data.load import DataRequest
from nephros.environment import PROCESS_DEFAULTS
from nephros.errors import NephrosError
from nephros.training.history import EpochMetrics
from nephros.tuning.study_state import ConfigKey
from nephros.tuning.trial import Outcome, Task, TrialRunner, outcome_from_dict


@dataclass(frozen=True)
class EpochDone:
    """A configuration has been trained for one more epoch, and its checkpoint is saved."""

    key: ConfigKey
    metrics: EpochMetrics


@dataclass(frozen=True)
class WorkerLost:
    """The process that ran a task died; the configuration's last checkpoint remains."""

    key: ConfigKey


TaskEvent = EpochDone | Outcome | WorkerLost
EventHandler = Callable[[TaskEvent], None]


class Executor(Protocol):
    """Runs tasks, several at once; the results don't depend on how many."""

    size: int
    """Tasks that run at once."""

    def submit(self, task: Task) -> None:
        """Start a task; at most `size` may be running."""

    def wait(self, on_event: EventHandler, timeout: float) -> None:
        """Pass events to `on_event`, waiting at most `timeout` seconds for the first."""

    def close(self) -> None:
        """Stop all running tasks; their unfinished epochs are lost."""


class _HandlerError(BaseException):
    """Carries an error of the event handler past the trial, which would blame the configuration for any Exception."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class InProcessExecutor:
    """Runs one task at a time in this process."""

    size = 1

    def __init__(self, runner: TrialRunner, threads: int) -> None:
        self._runner, self._threads = runner, threads
        self._task: Task | None = None

    def submit(self, task: Task) -> None:
        """Keep a task for `wait` to run."""
        self._task = task

    def wait(self, on_event: EventHandler, timeout: float) -> None:
        """Run the task to its end, passing on its events."""
        task, self._task = self._task, None
        if task is None:
            return
        previous_threads = torch.get_num_threads()
        torch.set_num_threads(self._threads)

        def on_epoch(metrics: EpochMetrics) -> None:
            try:
                on_event(EpochDone(task.key, metrics))
            except Exception as error:
                raise _HandlerError(error) from None

        try:
            on_event(self._runner.run_task(task, on_epoch))
        except _HandlerError as handler_error:
            raise handler_error.error from None
        finally:
            torch.set_num_threads(previous_threads)

    def close(self) -> None:
        """Do nothing: no task runs between calls."""


class NullExecutor:
    """Runs nothing: for a study whose scores are all in, and which only needs finalizing."""

    size = 0

    def submit(self, task: Task) -> None:
        """Raise NotImplementedError: there is no room for a task."""
        raise NotImplementedError

    def wait(self, on_event: EventHandler, timeout: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class WorkerSetup(TypedDict):
    """What a worker process needs to run tasks, as JSON."""

    data_request: DataRequest
    subset: int | None
    """Training images that trials see, as in StudySettings; drawn with `seed`."""
    seed: int
    device: str
    threads: int
    """CPU threads."""
    store: str
    """Root of the CheckpointStore."""


class ProcessExecutor:
    """Runs tasks in long-lived processes of nephros.tuning.worker, and replaces those that die; messages are lines of JSON."""

    def __init__(self, size: int, setup: WorkerSetup) -> None:
        """Start `size` processes."""
        self.size, self._setup = size, setup
        self._events: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        self._startup_failures = 0
        """Consecutive workers that died before they were ready."""
        self._workers = [self._spawn(slot) for slot in range(size)]

    def _spawn(self, slot: int) -> _Worker:
        return _Worker(slot, self._setup, self._events)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid for worker in self._workers]

    def submit(self, task: Task) -> None:
        """Assign the task to an idle worker."""
        next(worker for worker in self._workers if worker.task is None).assign(task)

    def wait(self, on_event: EventHandler, timeout: float) -> None:
        """Pass on the workers' events; OSError or NephrosError when a worker can't run at all."""
        deadline = time.monotonic() + timeout
        delivered = False
        while not delivered:
            try:
                worker, message = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return
            delivered = self._dispatch(worker, message, on_event)

    def _dispatch(self, worker: _Worker, message: dict[str, Any] | None, on_event: EventHandler) -> bool:
        if message is None:
            return self._replace_worker(worker, on_event)
        if "ready" in message:
            self._startup_failures = 0
            worker.ready = True
            return False
        if "error_message" in message:
            if message["errno"] is not None:
                raise OSError(message["errno"], message["error_message"], message["file"])
            raise NephrosError(message["error_message"])
        if "metrics" in message:
            bracket, index = message["key"]
            on_event(EpochDone((bracket, index), EpochMetrics(**message["metrics"])))
            return True
        worker.task = None
        on_event(outcome_from_dict(message["outcome"]))
        return True

    def _replace_worker(self, worker: _Worker, on_event: EventHandler) -> bool:
        """Start a new worker in a dead one's place, which takes over its task if the dead one had not started it."""
        worker.close_pipes()
        if not worker.ready:
            self._startup_failures += 1
            if self._startup_failures > 3 + self.size:
                raise NephrosError(
                    "The worker processes die at startup, perhaps for lack of memory: use fewer `workers`."
                )
        replacement = self._workers[worker.slot] = self._spawn(worker.slot)
        if worker.task is None:
            return False
        if not worker.ready:
            replacement.assign(worker.task)
            return False
        on_event(WorkerLost(worker.task.key))
        return True

    def close(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
            worker.close_pipes()


class _Worker:
    """One process, and the thread that reads its messages."""

    def __init__(
        self, slot: int, setup: WorkerSetup, events: queue.Queue[tuple[_Worker, dict[str, Any] | None]]
    ) -> None:
        self.slot, self.ready = slot, False
        self.task: Task | None = None
        env = PROCESS_DEFAULTS | dict(os.environ)
        if setup["device"] == "cuda":
            env["CUDA_VISIBLE_DEVICES"] = _visible_gpu(slot)
        threads = str(setup["threads"])
        env |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nephros.tuning.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            text=True,
            # The driver alone handles a terminal's Ctrl-C.
            start_new_session=True,
        )
        self._events = events
        self._send(setup)
        self._reader = threading.Thread(target=self._read_messages, daemon=True)
        self._reader.start()

    def assign(self, task: Task) -> None:
        self.task = task
        self._send(dataclasses.asdict(task))

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died; the reader thread notices
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def _read_messages(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("}\n"):  # a process that is killed while writing leaves half a line
                self._events.put((self, json.loads(line)))
        self.process.wait()
        self._events.put((self, None))

    def close_pipes(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._reader.join()
        self.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


def _visible_gpu(slot: int) -> str:
    """Return the GPU of the worker in a slot: workers are spread over the GPUs in turn."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    return visible.split(",")[slot % len(visible.split(","))]
