"""Requests of one event loop share calls of the network, and each gets its own predictions, errors and cancellations."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.inference.prediction_batch import PredictionBatch
from nephros.server.batching import Batcher
from nephros.server.limits import RequestRejected
from nephros.server.loop_queue import LoopQueue


def cells(*values: int) -> NDArray[np.uint8]:
    return np.array(values, dtype=np.uint8)[:, None, None]


class Network:
    """Predicts the first pixel of each cell; its calls wait until the gate is open."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.gate, self.is_called = threading.Event(), threading.Event()
        self.gate.set()

    def __call__(self, batch: NDArray[np.uint8]) -> PredictionBatch:
        values = batch[:, 0, 0].tolist()
        self.calls.append(values)
        self.is_called.set()
        self.gate.wait()
        if 13 in values:
            raise ValueError("thirteen")
        n = len(batch)
        probabilities = batch.reshape(n, 1).astype(np.float32)
        return PredictionBatch(probabilities, None, None, np.zeros(n, np.bool_), ((),) * n)


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def batcher(network: Network) -> Iterator[Batcher]:
    batcher = Batcher(network)
    batcher.max_batch = 64
    yield batcher
    network.gate.set()
    batcher.close()


def test_every_request_gets_its_own_predictions(batcher: Batcher) -> None:
    async def run() -> list[list[float]]:
        queue = LoopQueue(batcher)

        async def request(first: int) -> list[float]:
            values: list[float] = []
            for value in range(first, first + 5):
                values += (await queue.predict(cells(value, 100))).probabilities[:, 0].tolist()
            return values

        return await asyncio.gather(*map(request, range(20, 50)))

    results = asyncio.run(run())
    assert results == [[v for value in range(first, first + 5) for v in (value, 100)] for first in range(20, 50)]
    assert batcher.n_cells == 2 * 5 * 30


def test_cells_of_one_turn_of_the_loop_are_predicted_together(batcher: Batcher, network: Network) -> None:
    """The thread is held while they are queued, since it might see the first of them before the others."""

    async def run() -> None:
        queue = LoopQueue(batcher)
        network.gate.clear()
        first = asyncio.create_task(queue.predict(cells(1)))
        while not network.is_called.is_set():
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(queue.predict(cells(value))) for value in (2, 3, 4)]
        await asyncio.sleep(0)  # they submit
        await asyncio.sleep(0)  # the queue passes them on
        network.gate.set()
        await asyncio.gather(first, *others)

    asyncio.run(run())
    assert network.calls == [[1], [2, 3, 4]]


def test_an_error_reaches_those_whose_call_failed_and_the_queue_goes_on(batcher: Batcher) -> None:
    async def run() -> float:
        queue = LoopQueue(batcher)
        with pytest.raises(ValueError, match="thirteen"):
            await queue.predict(cells(13))
        return float((await queue.predict(cells(7))).probabilities[0, 0])

    assert asyncio.run(run()) == 7


def test_cancelled_requests_cost_nothing_and_others_are_served(batcher: Batcher, network: Network) -> None:
    async def run() -> None:
        queue = LoopQueue(batcher)
        at_once = asyncio.create_task(queue.predict(cells(1)))
        await asyncio.sleep(0)
        at_once.cancel()  # before the queue passes it on
        network.gate.clear()
        running = asyncio.create_task(queue.predict(cells(2)))
        while not network.is_called.is_set():
            await asyncio.sleep(0.001)
        waiting = asyncio.create_task(queue.predict(cells(3)))
        kept = asyncio.create_task(queue.predict(cells(4)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()  # in the batcher's queue
        running.cancel()  # in the network
        await asyncio.sleep(0)
        network.gate.set()
        assert (await kept).probabilities[0, 0] == 4
        results = await asyncio.gather(at_once, running, waiting, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)

    asyncio.run(run())
    assert network.calls == [[2], [4]]


def test_a_full_or_closed_queue_rejects_each_request(network: Network) -> None:
    async def run(batcher: Batcher) -> list[object]:
        queue = LoopQueue(batcher)
        return await asyncio.gather(*(queue.predict(cells(v)) for v in (1, 2)), return_exceptions=True)

    full, closed = Batcher(network, max_queue_length=0), Batcher(network)
    closed.close()
    for batcher in (full, closed):
        assert all(isinstance(result, RequestRejected) and result.status == 503 for result in asyncio.run(run(batcher)))
    full.close()


@pytest.mark.parametrize("n_turns", [0, 1, 2])
def test_a_loop_that_closes_leaves_the_queue_to_the_next(batcher: Batcher, network: Network, n_turns: int) -> None:
    """It may close before the cells are passed on, while they wait, and with a result on its way."""
    queue = LoopQueue(batcher)

    async def give_up() -> None:
        network.gate.clear()
        waiting = asyncio.gather(*(queue.predict(cells(v)) for v in (1, 2)))
        for _ in range(n_turns):
            await asyncio.sleep(0)
        waiting.cancel()

    async def end_with_a_result() -> None:
        network.gate.set()
        channel = asyncio.create_task(queue.predict(cells(3)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        while batcher.n_cells == n_cells:
            time.sleep(0.001)  # the loop doesn't turn, and closes with the result in its inbox
        channel.cancel()

    async def run() -> float:
        return float((await queue.predict(cells(9))).probabilities[0, 0])

    asyncio.run(give_up())
    n_cells = batcher.n_cells
    asyncio.run(end_with_a_result())
    assert asyncio.run(run()) == 9
