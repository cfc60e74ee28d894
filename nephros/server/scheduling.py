"""Where uploads are read: a few small images in threads of their own, so that they never wait behind other requests."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from nephros.data.images.decoder import WORKER_MODULES, ImageDecoder
from nephros.data.images.decoding_cost import claimed_pixels, is_cheap, is_image
from nephros.data.input_files import InMemoryFile
from nephros.isolation.pool import TimeBudget, WorkerPool
from nephros.server.limits import RequestLimits

SMALL_REQUEST_THREADS, LARGE_REQUEST_THREADS = 4, 32
"""Threads for requests of a few small images, and for all others, most of which wait for a process or for their turn."""
ACTIVE_LARGE_REQUESTS = 2
"""Large requests that this process works on at one time."""
DECODER_PROCESSES, DECODER_NICENESS = 2, 10
"""Processes that decode unusual images, and by how much less of a busy processor they get."""
SMALL_REQUEST_FILES, SMALL_REQUEST_BYTES, SMALL_REQUEST_PIXELS = 16, 1 << 20, 4 << 20
MAX_CHEAP_PIXELS = 1 << 20
"""Pixels of a usual file up to which it is decoded in this process."""

RunInThread = Callable[..., Awaitable[Any]]
"""Calls a function with arguments in a thread, and returns its result."""


class RequestScheduler:
    """Threads and processes that read the files of requests."""

    def __init__(self) -> None:
        self._small = ThreadPoolExecutor(SMALL_REQUEST_THREADS, thread_name_prefix="nephros-small")
        self._large = ThreadPoolExecutor(LARGE_REQUEST_THREADS, thread_name_prefix="nephros-large")
        self._turns = threading.BoundedSemaphore(ACTIVE_LARGE_REQUESTS)
        self._thread = threading.local()
        self._decoders = WorkerPool(DECODER_PROCESSES, niceness=DECODER_NICENESS, modules=WORKER_MODULES)

    def start(self) -> None:
        """Start the processes, so that the first unusual image need not wait for one."""
        self._decoders.start()

    def close(self) -> None:
        """Stop the threads and processes."""
        for threads in (self._small, self._large):
            threads.shutdown(wait=False, cancel_futures=True)
        self._decoders.close()

    def threads_for(self, files: Sequence[InMemoryFile]) -> RunInThread:
        """Return how to call functions for a request with these files."""
        return self._run_small if is_small_request(files) else self._run_large

    def decoder(self, limits: RequestLimits) -> ImageDecoder:
        """Return the decoder of one request."""
        return ImageDecoder(
            budget=TimeBudget(limits.decode_timeout_s),
            pool=self._decoders,
            max_cheap_pixels=MAX_CHEAP_PIXELS,
            wait_s=limits.timeout_s,
            waiting=self._without_turn,
            advice="send it by itself, or save it again as an uncompressed TIFF",
        )

    async def _run_small(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._small, function, *args)

    async def _run_large(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._large, self._call_in_turn, function, *args)

    def _call_in_turn(self, function: Callable[..., Any], *args: Any) -> Any:
        with self._turns:
            self._thread.has_turn = True
            try:
                return function(*args)
            finally:
                self._thread.has_turn = False

    @contextlib.contextmanager
    def _without_turn(self) -> Iterator[None]:
        """Within the block, in which this thread only waits, let another large request go on."""
        if not getattr(self._thread, "has_turn", False):
            yield
            return
        self._turns.release()
        try:
            yield
        finally:
            self._turns.acquire()


def is_small_request(files: Sequence[InMemoryFile]) -> bool:
    """Return whether reading files is certain to take little time: a few small images of usual kinds."""
    return (
        len(files) <= SMALL_REQUEST_FILES
        and sum(len(file.data) for file in files) <= SMALL_REQUEST_BYTES
        and sum(claimed_pixels(file.data) for file in files) <= SMALL_REQUEST_PIXELS
        and all(is_image(file.data) and is_cheap(file.data, MAX_CHEAP_PIXELS) for file in files)
    )
