"""Requests that are merged get each their own answers, whatever happens to the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.inference.predictor import Answers
from nephros.server.batching import MOST, Batcher
from nephros.server.limits import Refused

Cells = NDArray[np.uint8]


class Network:
    """Answers a cell with its own first pixel, once it is let; remembers how many cells came at a time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.begun, self.let = threading.Event(), threading.Event()

    def __call__(self, cells: Cells) -> Answers:
        self.sizes.append(len(cells))
        self.begun.set()
        assert self.let.wait(10)
        if cells.max() == 255:
            raise RuntimeError("the network is broken")
        value = cells[:, :1, 0].astype(np.float32)
        return Answers(value, value, None, np.zeros(len(cells), dtype=np.bool_), ("",) * len(cells))


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def batcher(network: Network) -> Iterator[Batcher]:
    made = Batcher(network, jobs=6)
    yield made
    network.let.set()
    made.close()


def cells(*values: int) -> Cells:
    return np.array(values, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), dtype=np.uint8)


def test_what_waits_is_answered_in_one_call(batcher: Batcher, network: Network) -> None:
    first = batcher.submit(cells(1))
    assert network.begun.wait(5)
    waiting = [batcher.submit(cells(2, 3)), batcher.submit(cells(4)), batcher.submit(cells(5, 6, 7))]
    gone = batcher.submit(cells(9))
    assert gone.cancel()
    assert len(batcher) == 4
    network.let.set()
    assert [future.result(5).probabilities[:, 0].tolist() for future in (first, *waiting)] == [
        [1],
        [2, 3],
        [4],
        [5, 6, 7],
    ]
    assert network.sizes == [1, 6]
    assert (batcher.calls, batcher.cells) == (2, 7)


def test_a_call_has_a_largest_size_and_a_larger_job_goes_alone(batcher: Batcher, network: Network) -> None:
    batcher.submit(cells(1))
    assert network.begun.wait(5)
    waiting = [batcher.submit(cells(*[2] * n)) for n in (MOST - 1, 2, MOST + 5, 1)]
    network.let.set()
    assert [len(future.result(5)) for future in waiting] == [MOST - 1, 2, MOST + 5, 1]
    assert network.sizes == [1, MOST - 1, 2, MOST + 5, 1]


def test_cells_wait_a_moment_for_a_request_that_is_being_read(batcher: Batcher, network: Network) -> None:
    network.let.set()
    with batcher.coming():
        late = batcher.submit(cells(1))
        assert late.result(5).probabilities[0, 0] == 1  # but not for ever
    assert network.sizes == [1]


def test_a_full_queue_refuses_and_goes_on(batcher: Batcher, network: Network) -> None:
    batcher.submit(cells(1))
    assert network.begun.wait(5)
    waiting = [batcher.submit(cells(i)) for i in range(6)]
    with pytest.raises(Refused, match="busy") as refused:
        batcher.submit(cells(7))
    assert refused.value.status == 503
    network.let.set()
    assert [future.result(5).probabilities[0, 0] for future in waiting] == list(range(6))


def test_a_failure_is_told_to_those_who_wait_and_the_next_is_answered(batcher: Batcher, network: Network) -> None:
    network.let.set()
    with pytest.raises(RuntimeError, match="broken"):
        batcher.submit(cells(255)).result(5)
    assert batcher.submit(cells(3)).result(5).probabilities[0, 0] == 3


def test_without_merging_each_job_is_a_call(network: Network) -> None:
    batcher = Batcher(network, merge=False)
    network.let.set()
    for future in [batcher.submit(cells(i, i)) for i in range(4)]:
        future.result(5)
    assert network.sizes == [2, 2, 2, 2]
    batcher.close()


def test_closing_refuses_what_waits(network: Network) -> None:
    batcher = Batcher(network)
    first = batcher.submit(cells(1))
    assert network.begun.wait(5)
    waiting = batcher.submit(cells(2))
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while not batcher._closed:
        pass
    network.let.set()
    closing.join(5)
    assert first.result(5).probabilities[0, 0] == 1
    with pytest.raises(Refused, match="ending"):
        waiting.result(5)
    with pytest.raises(Refused, match="ending"):
        batcher.submit(cells(3))
