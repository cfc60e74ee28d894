"""Writes to storage and removals of checkpoints, in order and in the background, so that no worker waits for a disk.

What is written is always a beginning of what was decided. A crash loses the end of it, which the checkpoints, removed
only in the same order, still hold.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Write = Callable[[], None]


class Journal:
    """An ordered queue of writes with one thread of its own."""

    def __init__(self) -> None:
        self._writes: queue.Queue[Write | None] = queue.Queue()
        self._trouble: Exception | None = None
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._thread.start()

    def put(self, write: Write) -> None:
        """Have something written after all that came before; raises what an earlier write raised."""
        self.check()
        self._writes.put(write)

    def check(self) -> None:
        """Raise what a write raised, if any did."""
        if self._trouble is not None:
            raise self._trouble

    def close(self, *, finish: bool) -> None:
        """End the thread, after all writes where `finish`, and raise what one of them raised; else as soon as may be."""
        if not finish:
            self._trouble = self._trouble or InterruptedError()
        self._writes.put(None)
        if finish:
            self._thread.join()
            self.check()
        else:
            self._thread.join(timeout=5)

    def _go(self) -> None:
        while (write := self._writes.get()) is not None:
            if self._trouble is None:
                try:
                    write()
                except Exception as error:
                    self._trouble = error
