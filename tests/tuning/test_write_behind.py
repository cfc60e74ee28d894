"""The queue of background writes."""

from __future__ import annotations

import pytest

from nephros.tuning.write_behind import WriteBehindQueue


def test_writes_are_carried_out_in_order() -> None:
    written: list[int] = []
    write_queue = WriteBehindQueue()
    for i in range(100):
        write_queue.put(lambda i=i: written.append(i))  # type: ignore[misc]
    write_queue.close(drain=True)
    assert written == list(range(100))


def test_nothing_is_written_after_a_failed_write() -> None:
    written: list[int] = []

    def fail() -> None:
        raise OSError("full")

    write_queue = WriteBehindQueue()
    write_queue.put(fail)
    write_queue.put(lambda: written.append(-1))
    with pytest.raises(OSError, match="full"):
        write_queue.close(drain=True)
    with pytest.raises(OSError, match="full"):
        write_queue.put(lambda: None)
    assert -1 not in written  # nothing is written after a failed write
