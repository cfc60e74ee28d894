"""Writes to storage and removals of checkpoints, in order and in the background, so that no worker waits for a disk.

Storage always holds a prefix of what was decided. A crash loses the rest, but the checkpoints, which are removed in the
same order, still hold it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Write = Callable[[], None]


class WriteBehindQueue:
    """An ordered queue of writes, carried out by one background thread."""

    def __init__(self) -> None:
        self._writes: queue.Queue[Write | None] = queue.Queue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def put(self, write: Write) -> None:
        """Queue a write after all earlier ones; raises what an earlier write raised."""
        self.raise_pending()
        self._writes.put(write)

    def raise_pending(self) -> None:
        """Raise the error of the first write that failed, if any."""
        if self._error is not None:
            raise self._error

    def close(self, *, drain: bool) -> None:
        """End the thread: with `drain` after all writes, raising what one of them raised; else after the current write."""
        if not drain:
            self._error = self._error or InterruptedError()
        self._writes.put(None)
        if drain:
            self._thread.join()
            self.raise_pending()
        else:
            self._thread.join(timeout=5)

    def _drain(self) -> None:
        while (write := self._writes.get()) is not None:
            if self._error is None:
                try:
                    write()
                except Exception as error:
                    self._error = error
