"""Where uploads are read: a few small images in threads of this process, everything else in processes of low priority.

So a client that sends a cell never waits behind others, whatever these send.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar

from nephros.data.images.decoding_cost import claimed_pixels, is_cheap, is_image
from nephros.data.input_files import InMemoryFile
from nephros.isolation.pool import PoolBusy, TimeBudget, TimeLimitExceeded, WorkerCrashed, WorkerPool
from nephros.server.limits import RequestRejected
from nephros.server.reading import Chunk, ReadOptions, iter_chunks, options_to_message, read_in_worker, read_plain_cells
from nephros.server.stack_reading import StackPart, StackReadOptions, read_stack, read_stack_in_worker, to_message

READER_PROCESSES, READER_NICENESS = 4, 10
"""Processes that read large requests, and by how much less of a busy processor they get."""
SMALL_REQUEST_THREADS, LARGE_REQUEST_THREADS, RESULT_THREADS = 4, 64, 2
"""Threads that read small requests, that wait for the processes, and that make the results of large requests."""
SMALL_REQUEST_FILES, SMALL_REQUEST_BYTES, SMALL_REQUEST_PIXELS = 16, 1 << 19, 4 << 20
_WAIT_S = 1.0
MAX_STACKS = 2
"""Stacks that are read at one time, so that some processes stay free for other requests."""
MAX_WAITING_BYTES = 32 << 20
"""Bytes of cells of one request that may wait for the network; its process then waits too."""

STACK_TOO_LARGE = "The stack takes too much memory to read: send a part of it."
FILES_TOO_LARGE = "The files take too much memory to read: send fewer at once."


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=_Sized)


@contextlib.contextmanager
def _rejections(too_slow: str, too_large: str) -> Generator[None, None, None]:
    """Turn what ends the reading of a request early into a RequestRejected."""
    try:
        yield
        return
    except TimeLimitExceeded:
        raise RequestRejected(504, too_slow) from None
    except PoolBusy:
        raise RequestRejected(503, "The server is busy: try again in a few seconds.") from None
    except MemoryError:
        pass  # whose traceback would keep what was read in memory
    raise RequestRejected(413, too_large)


class RequestScheduler:
    """Threads and processes that read the files of requests."""

    def __init__(self, reader_processes: int = READER_PROCESSES) -> None:
        """Set the number of processes; 0 reads all requests in threads of this process."""
        self._small = ThreadPoolExecutor(SMALL_REQUEST_THREADS, thread_name_prefix="nephros-small")
        self._large = ThreadPoolExecutor(LARGE_REQUEST_THREADS, thread_name_prefix="nephros-large")
        self._stacks = ThreadPoolExecutor(MAX_STACKS, thread_name_prefix="nephros-stacks")
        self._results = ThreadPoolExecutor(RESULT_THREADS, thread_name_prefix="nephros-results")
        self._readers = (
            WorkerPool(reader_processes, niceness=READER_NICENESS, modules=[read_in_worker.__module__])
            if reader_processes
            else None
        )

    def start(self) -> None:
        """Start the processes, so that the first large request need not wait for one."""
        if self._readers:
            self._readers.start()

    @property
    def pids(self) -> list[int]:
        """Process ids of the readers."""
        return self._readers.pids if self._readers else []

    def close(self) -> None:
        """Stop the threads and processes."""
        for threads in (self._small, self._large, self._stacks, self._results):
            threads.shutdown(wait=False, cancel_futures=True)
        if self._readers:
            self._readers.close()

    async def read(self, files: Sequence[InMemoryFile], options: ReadOptions) -> AsyncGenerator[Chunk, None]:
        """Yield the chunks of a request.

        Raises:
            RequestRejected: its files take too long or too much memory, or there are too many requests.
            InvalidArgument: an option is out of range.
        """
        if (plain := read_plain_cells(files, options)) is not None:
            yield plain
            return
        is_local = is_small_request(files) or self._readers is None
        feed = _Feed[Chunk]()
        chunks = iter_chunks(files, options) if is_local else self._read_in_process(files, options, feed)
        threads = self._small if is_local else self._large
        reading = asyncio.get_running_loop().run_in_executor(threads, feed.fill, chunks)
        try:
            while (chunk := await feed.get()) is not None:
                yield chunk
        finally:
            feed.close()
            reading.cancel()

    async def read_stack(
        self, options: StackReadOptions, timeout_s: float, release: Callable[[], None]
    ) -> AsyncGenerator[StackPart, None]:
        """Yield the parts of a stack, and call `release` once nothing reads it any more.

        Raises:
            RequestRejected: reading it takes too long or too much memory, or there are too many requests.
        """
        feed = _Feed[StackPart]()
        parts = self._read_stack_in_process(options, timeout_s, feed) if self._readers else read_stack(options)

        def parts_then_release() -> Generator[StackPart, None, None]:
            try:
                yield from parts
            finally:
                release()

        reading = self._stacks.submit(feed.fill, parts_then_release())
        try:
            while (part := await feed.get()) is not None:
                yield part
        finally:
            feed.close()
            if reading.cancel():  # it had to wait for other stacks
                release()

    def _read_stack_in_process(
        self, options: StackReadOptions, timeout_s: float, feed: _Feed[StackPart]
    ) -> Generator[StackPart, None, None]:
        """Yield the parts of a stack that a reader process reads."""
        budget, message = TimeBudget(timeout_s), to_message(options)
        with (
            _rejections("The stack took too long to read: send a part of it.", STACK_TOO_LARGE),
            contextlib.closing(
                self._run_when_free(read_stack_in_worker, message, budget=budget, feed=feed)
            ) as messages,
        ):
            try:
                yield from map(StackPart.from_message, messages)
            except WorkerCrashed:
                raise RequestRejected(400, "The stack can't be read: its reader crashed. Save it again.") from None

    def run_for(self, files: Sequence[InMemoryFile] | None) -> Callable[..., Awaitable[Any]]:
        """Return how to call a function with arguments in a thread, for a request with these files; None is one of a stack."""
        threads = self._small if files is not None and is_small_request(files) else self._results

        async def run(function: Callable[..., Any], *args: Any) -> Any:
            return await asyncio.get_running_loop().run_in_executor(threads, function, *args)

        return run

    def _read_in_process(
        self, files: Sequence[InMemoryFile], options: ReadOptions, feed: _Feed[Chunk]
    ) -> Generator[Chunk, None, None]:
        """Yield the chunks of a request that a reader process reads; if it crashes, another isolates every file."""
        contents = [(file.name, file.data) for file in files]
        budget, delivered = TimeBudget(options.limits.timeout_s), set[int]()
        with _rejections("The files took too long to read: send fewer at once.", FILES_TOO_LARGE):
            for max_cheap_pixels in (options.max_cheap_pixels, 0):
                message = options_to_message(options, max_cheap_pixels)
                with (
                    contextlib.suppress(WorkerCrashed),
                    contextlib.closing(
                        self._run_when_free(read_in_worker, contents, message, budget=budget, feed=feed)
                    ) as messages,
                ):
                    for chunk in map(Chunk.from_message, messages):
                        chunk = chunk if max_cheap_pixels else chunk.without(delivered)
                        delivered.update(chunk.rows.tolist(), chunk.errors)
                        yield chunk
                    return
        raise RequestRejected(413, FILES_TOO_LARGE)

    def _run_when_free(
        self, function: Callable[..., Any], *args: Any, budget: TimeBudget, feed: _Feed[Any]
    ) -> Generator[Any, None, None]:
        """Run a job in a process as soon as one is free, unless nobody waits for it any more."""
        assert self._readers is not None
        deadline = time.monotonic() + budget.left
        while True:
            try:
                yield from self._readers.run(function, *args, budget=budget, wait_s=_WAIT_S)
                return
            except PoolBusy:
                if feed.is_closed or self._readers.is_closed or time.monotonic() > deadline:
                    raise


def is_small_request(files: Sequence[InMemoryFile]) -> bool:
    """Return whether reading files is certain to take little time: a few small images of usual kinds."""
    return (
        len(files) <= SMALL_REQUEST_FILES
        and sum(len(file.data) for file in files) <= SMALL_REQUEST_BYTES
        and sum(claimed_pixels(file.data) for file in files) <= SMALL_REQUEST_PIXELS
        and all(is_image(file.data) and is_cheap(file.data, SMALL_REQUEST_PIXELS) for file in files)
    )


class _FeedClosed(Exception):
    """Nobody waits for the chunks any more."""


class _Feed(Generic[T]):
    """Chunks on their way from a thread to the coroutine that wants them."""

    def __init__(self) -> None:
        self._loop, self._arrived = asyncio.get_running_loop(), asyncio.Event()
        self._items: deque[T | BaseException | None] = deque()
        self._space = threading.Condition()
        self._n_bytes, self.is_closed = 0, False

    def fill(self, chunks: Generator[T, None, None]) -> None:
        """Read all chunks, waiting where too many are on their way."""
        try:
            with contextlib.closing(chunks):
                for chunk in chunks:
                    self._put(chunk, chunk.nbytes)
            self._put(None)
        except _FeedClosed:
            pass
        except BaseException as error:
            with contextlib.suppress(_FeedClosed):
                self._put(error)

    def _put(self, item: T | BaseException | None, n_bytes: int = 0) -> None:
        with self._space:
            self._space.wait_for(lambda: self._n_bytes <= MAX_WAITING_BYTES or self.is_closed)
            if self.is_closed:
                raise _FeedClosed
            self._n_bytes += n_bytes
            self._items.append(item)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def get(self) -> T | None:
        """Return the next chunk, or None after the last; raise what reading them raised."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        item = self._items.popleft()
        if isinstance(item, BaseException):
            raise item
        if item is not None:
            with self._space:
                self._n_bytes -= item.nbytes
                self._space.notify()
        return item

    def close(self) -> None:
        """Let the thread stop."""
        with self._space:
            self.is_closed = True
            self._space.notify()
