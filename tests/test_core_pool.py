"""The pool of threads, one per core: what it returns, its errors, and torch's threads in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from nephros.core_pool import CorePool


@pytest.fixture(autouse=True)
def _four_threads() -> Iterator[None]:
    previous = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(previous)


def test_calls_run_at_the_same_time_and_return_in_order() -> None:
    barrier, caller = threading.Barrier(3, timeout=60), threading.get_ident()

    def call(index: int) -> tuple[int, bool]:
        barrier.wait()  # passes only when all three are running
        return index, threading.get_ident() == caller

    assert CorePool(3).run(call) == [(0, True), (1, False), (2, False)]


def test_threads_of_torch_are_shared_and_restored() -> None:
    pool = CorePool(2)
    assert pool.run(lambda _: torch.get_num_threads()) == [2, 2]
    assert torch.get_num_threads() == 4
    assert CorePool(1).run(lambda _: torch.get_num_threads()) == [4]
    assert pool.run(lambda index: index, 1) == [0]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_every_item_is_taken_once(size: int) -> None:
    taken: list[int] = []
    CorePool(size).for_each(taken.append, iter(range(100)))
    assert sorted(taken) == list(range(100))


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_ends_the_work_and_the_pool_lives_on(size: int, error: type[BaseException]) -> None:
    pool, taken = CorePool(size), []

    def fail(item: int) -> None:
        taken.append(item)
        raise error

    with pytest.raises(error):
        pool.for_each(fail, range(1000))
    assert len(taken) <= size
    assert pool.run(lambda index: index) == list(range(size))
