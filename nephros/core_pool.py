"""Threads of this process that each keep one CPU core busy with work of their own.

Torch's own threads divide every operator and wait for each other at its end, hundreds of times per training step; beside another
busy process each wait takes until the slower core is free again. These threads divide whole batches and wait once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from nephros.device import torch_threads

T = TypeVar("T")
_END = object()


class CorePool:
    """The calling thread and `size` - 1 others, which run torch's operators at the same time.

    Torch releases the interpreter's lock in its operators, and computes gradients on a CPU in the thread that asks for them.
    Torch's settings of a thread, such as autocast and `torch.no_grad`, don't carry over: functions make their own.
    """

    def __init__(self, size: int) -> None:
        """Share this thread's torch threads among `size` threads, at least one each."""
        assert size >= 1
        self.size, self.threads_each = size, max(1, torch.get_num_threads() // size)
        self._executor: ThreadPoolExecutor | None = None
        if size > 1:
            self._executor = ThreadPoolExecutor(
                size - 1, "nephros-core", initializer=torch.set_num_threads, initargs=(self.threads_each,)
            )

    def run(self, function: Callable[[int], T], n: int | None = None) -> list[T]:
        """Return ``[function(0), ..., function(n - 1)]`` for `n` up to the pool's size, its default; 0 runs in this thread.

        An error is raised when all calls have ended.
        """
        others = range(1, self.size if n is None else n)
        if self._executor is None or not others:
            return [function(0)]
        with torch_threads(self.threads_each):
            futures = [self._executor.submit(function, index) for index in others]
            try:
                first = function(0)
            finally:
                wait(futures)
        return [first, *(future.result() for future in futures)]

    def for_each(self, function: Callable[[T], object], items: Iterable[T]) -> None:
        """Call `function` on each item, in the order in which threads become free; after an error begin no other."""
        iterator, lock, failed = iter(items), threading.Lock(), threading.Event()

        def work(_index: int) -> None:
            while not failed.is_set():
                with lock:
                    item = next(iterator, _END)
                if item is _END:
                    return
                try:
                    function(item)  # type: ignore[arg-type]
                except BaseException:
                    failed.set()
                    raise

        self.run(work)
