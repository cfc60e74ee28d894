"""Worker processes for functions that read what came from outside: one that takes too long or too much memory is killed.

A decoder can't be interrupted within a process, and a damaged file may crash it; a process of its own can be killed and replaced.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

from nephros.environment import PROCESS_DEFAULTS
from nephros.errors import NephrosError
from nephros.isolation.messages import error_from_message, read_message, write_message

MAX_MEMORY = 4 << 30
"""Bytes of address space of a worker."""
STARTUP_TIMEOUT_S = 60.0
_PIPE_BYTES = 1 << 20
_LAUNCH_CODE = """
import os, sys
if hasattr(os, "nice"):
    os.nice(int(sys.argv[1]))
from nephros.isolation.worker import main
main()
"""


class TimeLimitExceeded(Exception):
    """A job took longer than its budget, and its worker was killed."""


class WorkerCrashed(Exception):
    """A worker died while it ran a job: a decoder crashed, or the system ended it."""


class PoolBusy(Exception):
    """No worker became free in time."""


class TimeBudget:
    """Seconds that jobs may take together; the time in which a consumer works with their results doesn't count."""

    def __init__(self, seconds: float) -> None:
        self.seconds = self.left = seconds


class WorkerPool:
    """Up to `size` workers, started when they are first needed; several threads may run jobs at once."""

    def __init__(
        self, size: int = 1, *, max_memory: int = MAX_MEMORY, niceness: int = 0, modules: Sequence[str] = ()
    ) -> None:
        """Describe the workers.

        Args:
            size: number of workers.
            max_memory: bytes of address space of each.
            niceness: by how much less of a busy processor they get; see `os.nice`.
            modules: what they import before their first job.
        """
        self.size = size
        self._setup, self._niceness = {"max_memory": max_memory, "modules": list(modules)}, niceness
        self._slots = threading.BoundedSemaphore(size)
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._all: set[_Worker] = set()
        self.is_closed = False
        atexit.register(self.close)

    def start(self) -> None:
        """Start all workers, so that no job has to wait for one."""
        workers = [self._spawn() for _ in range(self.size - len(self._all))]
        with self._lock:
            self._idle += workers

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        with self._lock:
            return [worker.process.pid for worker in self._all]

    def run(
        self, function: Callable[..., Iterable[Any]], *args: Any, budget: TimeBudget, wait_s: float | None = None
    ) -> Generator[Any, None, None]:
        """Call a function of this package in a worker, and yield what it yields.

        Arguments and items are values that `nephros.isolation.messages` can send. A consumer that stops early stops the worker.

        Args:
            function: defined at the top level of a module.
            args: its arguments.
            budget: what the job may take of it; shared budgets get smaller.
            wait_s: seconds to wait for a free worker; None waits as long as it takes.

        Raises:
            TimeLimitExceeded: the budget is used up.
            WorkerCrashed: the worker died.
            PoolBusy: no worker became free in time, or the pool is closed.
            NephrosError: as the function raised it; any other error is a RuntimeError or a MemoryError.
        """
        if not self._slots.acquire(timeout=wait_s):
            raise PoolBusy
        worker = None
        try:
            if self.is_closed:
                raise PoolBusy
            worker = self._take_idle() or self._spawn()
            self._await_start(worker)
            yield from worker.run(function, args, budget)
        finally:
            if worker is not None:
                self._put_back(worker)
            self._slots.release()

    def _take_idle(self) -> _Worker | None:
        """Return an idle worker that lives, if there is one."""
        while True:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            if worker is None or worker.process.poll() is None:
                return worker
            self._discard(worker)

    def _spawn(self) -> _Worker:
        try:
            worker = _Worker(self._setup, self._niceness)
        except OSError as error:
            raise NephrosError(
                f"No process can be started to read files ({error.strerror or error}): free some memory, or end other "
                "processes."
            ) from error
        with self._lock:
            self._all.add(worker)
            is_closed = self.is_closed
        if is_closed:
            worker.kill()
        return worker

    def _await_start(self, worker: _Worker) -> None:
        try:
            worker.wait_until_ready()
        except (TimeLimitExceeded, WorkerCrashed):
            if self.is_closed:
                raise PoolBusy from None
            raise NephrosError(
                "The process that reads files does not start: run `python -c 'import nephros.isolation.worker'` to see why."
            ) from None

    def _put_back(self, worker: _Worker) -> None:
        with self._lock:
            if worker.is_idle and not self.is_closed:
                self._idle.append(worker)
                return
        self._discard(worker)

    def _discard(self, worker: _Worker) -> None:
        with self._lock:
            self._all.discard(worker)
        worker.kill()

    def close(self) -> None:
        """Kill all workers."""
        with self._lock:
            self.is_closed = True
            workers, self._all = self._all, set()
            self._idle.clear()
        for worker in workers:
            worker.kill()
        atexit.unregister(self.close)


def _enlarge(pipe: Any) -> None:
    """Let a pipe hold more, where the system can do that: images pass through it with fewer switches between processes."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


class _Worker:
    """One process."""

    def __init__(self, setup: dict[str, Any], niceness: int) -> None:
        # The same modules as here, but none from the current folder, which may be the one with the files to read.
        paths = [path or os.getcwd() for path in sys.path]
        env = (
            PROCESS_DEFAULTS
            | os.environ
            | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        )
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _LAUNCH_CODE, str(niceness)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders write warnings about metadata there
            env=env,
            start_new_session=True,  # a terminal's Ctrl-C is for the parent
        )
        for pipe in (self.process.stdin, self.process.stdout):
            _enlarge(pipe)
        self._is_ready = self.is_idle = False
        self._lock = threading.Lock()
        self._deadline: object = None
        with contextlib.suppress(OSError):  # it has died, which the first job will find out
            self._send(setup)

    def _send(self, value: Any) -> None:
        assert self.process.stdin is not None
        write_message(self.process.stdin, value)

    def wait_until_ready(self) -> None:
        """Wait until the process has imported its modules; raise TimeLimitExceeded or WorkerCrashed if it never does."""
        if not self._is_ready:
            self._receive(TimeBudget(STARTUP_TIMEOUT_S))
            self._is_ready = True

    def run(self, function: Callable[..., Iterable[Any]], args: Sequence[Any], budget: TimeBudget) -> Iterator[Any]:
        """Run one job; afterwards `is_idle` tells whether the worker can run another."""
        self.is_idle = False
        name = f"{function.__module__}:{function.__qualname__}"
        with self._killed_after(budget):
            try:
                self._send({"function": name, "args": args, "timeout_s": max(budget.left, 0.0)})
            except OSError:
                raise WorkerCrashed from None
        while True:
            message = self._receive(budget)
            is_last = "done" in message or "error" in message
            self.is_idle = is_last
            yield from message["items"]
            if "error" in message:
                raise error_from_message(message["error"])
            if is_last:
                return

    def _receive(self, budget: TimeBudget) -> Any:
        """Return the next message; raise TimeLimitExceeded or WorkerCrashed where there is none."""
        assert self.process.stdout is not None
        with self._killed_after(budget):
            try:
                return read_message(self.process.stdout)
            except (EOFError, OSError, ValueError):
                raise WorkerCrashed from None

    @contextlib.contextmanager
    def _killed_after(self, budget: TimeBudget) -> Iterator[None]:
        """Take the time of the block from the budget; kill the worker when nothing is left, which ends the block."""
        start, deadline = time.monotonic(), object()
        self._deadline = deadline
        timer = threading.Timer(max(budget.left, 0.0), self._kill_at, (deadline,))
        timer.daemon = True
        timer.start()
        try:
            yield
        except WorkerCrashed:
            if budget.left - (time.monotonic() - start) <= 0:
                raise TimeLimitExceeded from None
            raise
        finally:
            timer.cancel()
            with self._lock:
                self._deadline = None
            budget.left -= time.monotonic() - start

    def _kill_at(self, deadline: object) -> None:
        with self._lock:
            if self._deadline is deadline:  # a timer that is late must not kill the next job
                self.process.kill()

    def kill(self) -> None:
        """End the process and wait until it is gone."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
