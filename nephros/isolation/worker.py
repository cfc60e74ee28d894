"""A worker process of `nephros.isolation.pool`: calls functions of this package and sends what they yield."""

from __future__ import annotations

import contextlib
import importlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import IO, Any

import numpy as np

from nephros.isolation.messages import error_to_message, read_message, write_message

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MAX_MESSAGE_ITEMS, MESSAGE_BYTES, MESSAGE_DELAY_S = 256, 1 << 20, 0.1
"""Items are sent together, up to so many, so many bytes of arrays, or so many seconds after the first."""
_CPU_GRACE_S = 10
"""Seconds of processor time beyond a job's limit after which the system ends this process, should its parent be dead."""


def main() -> None:
    """Run jobs until the parent ends. The first message holds `max_memory` in bytes and the `modules` to import."""
    # Nothing else may write to the pipe that the parent reads.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    jobs: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_read_jobs, args=(sys.stdin.buffer, jobs), daemon=True).start()
    setup = jobs.get()
    _limit_memory(setup["max_memory"])
    for module in setup["modules"]:
        importlib.import_module(module)
    write_message(out, {"ready": True})
    while True:
        _run_job(jobs.get(), out)


def _read_jobs(file: IO[bytes], jobs: queue.Queue[Any]) -> None:
    with contextlib.suppress(EOFError, ValueError, OSError):
        while True:
            jobs.put(read_message(file))
    os._exit(0)  # the parent has ended, or no longer wants the result of the job under way


def _limit_memory(max_bytes: int) -> None:
    if resource is not None:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_processor_time(seconds: float) -> None:
    if resource is not None:
        with contextlib.suppress(ValueError, OSError):
            _, hard = resource.getrlimit(resource.RLIMIT_CPU)
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + _CPU_GRACE_S, hard))


def _run_job(job: dict[str, Any], out: IO[bytes]) -> None:
    _limit_processor_time(job["timeout_s"])
    items: list[Any] = []
    n_bytes, started = 0, time.monotonic()
    try:
        for item in _function(job["function"])(*job["args"]):
            items.append(item)
            n_bytes += sum(value.nbytes for value in _values(item) if isinstance(value, np.ndarray))
            is_due = time.monotonic() - started > MESSAGE_DELAY_S
            if len(items) == MAX_MESSAGE_ITEMS or n_bytes >= MESSAGE_BYTES or is_due:
                write_message(out, {"items": items})
                _limit_processor_time(job["timeout_s"])  # the parent may allow so many seconds for each item
                items, n_bytes, started = [], 0, time.monotonic()
    except Exception as error:
        write_message(out, {"items": items, "error": error_to_message(error)})
    else:
        write_message(out, {"items": items, "done": True})


def _values(item: Any) -> Iterable[Any]:
    return item if isinstance(item, tuple | list) else (item,)


def _function(name: str) -> Callable[..., Iterable[Any]]:
    """Return the function that a name such as ``nephros.data.images.decoding:decode_pages`` stands for."""
    module, _, function = name.partition(":")
    result: Callable[..., Iterable[Any]] = getattr(importlib.import_module(module), function)
    return result
