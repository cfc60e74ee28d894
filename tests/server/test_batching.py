"""Requests that share a batch each get their own predictions, whatever happens to the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.inference.prediction_batch import PredictionBatch
from nephros.server.batching import FIRST_BATCH, MAX_BATCH, TARGET_CALL_S, Batcher
from nephros.server.limits import RequestRejected

Cells = NDArray[np.uint8]


class FakePredictor:
    """Returns the first pixel of each cell as its probability, once released, and records the batch sizes."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.started, self.released = threading.Event(), threading.Event()

    def __call__(self, cells: Cells) -> PredictionBatch:
        self.sizes.append(len(cells))
        self.started.set()
        assert self.released.wait(10)
        if cells.max() == 255:
            raise RuntimeError("the network is broken")
        value = cells[:, :1, 0].astype(np.float32)
        return PredictionBatch(value, value, None, np.zeros(len(cells), dtype=np.bool_), ((),) * len(cells))


@pytest.fixture
def network() -> FakePredictor:
    return FakePredictor()


@pytest.fixture
def batcher(network: FakePredictor) -> Iterator[Batcher]:
    batcher = Batcher(network, max_queue_length=6)
    yield batcher
    network.released.set()
    batcher.close()


def cells(*values: int) -> Cells:
    return np.array(values, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), dtype=np.uint8)


def test_waiting_jobs_share_one_call(batcher: Batcher, network: FakePredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "_adapt_size", lambda *_: None)
    first = batcher.submit(cells(1))
    assert network.started.wait(5)
    waiting = [batcher.submit(cells(2, 3)), batcher.submit(cells(4)), batcher.submit(cells(5))]
    assert batcher.submit(cells(9)).cancel()
    assert len(batcher) == 4
    network.released.set()
    assert [future.result(5).probabilities[:, 0].tolist() for future in (first, *waiting)] == [
        [1],
        [2, 3],
        [4],
        [5],
    ]
    assert network.sizes == [1, FIRST_BATCH]
    assert (batcher.n_calls, batcher.n_cells) == (2, 5)


def test_batches_have_a_maximum_size_and_larger_jobs_take_several(batcher: Batcher, network: FakePredictor) -> None:
    network.released.set()
    sizes = (MAX_BATCH - 1, 2, 3 * MAX_BATCH + 5, 1)
    waiting = [batcher.submit(cells(*(np.arange(n) % 200))) for n in sizes]
    for future, n in zip(waiting, sizes, strict=True):
        predictions = future.result(5)
        assert predictions.probabilities[:, 0].tolist() == (np.arange(n) % 200).tolist()
        assert predictions.features is not None
        assert predictions.class_activation_maps is None
        assert len(predictions.features) == len(predictions.ood_reasons) == len(predictions.is_ood) == n
    assert max(network.sizes) <= MAX_BATCH
    assert sum(network.sizes) == sum(sizes)
    assert batcher.max_batch == MAX_BATCH  # this network takes no time


class SlowPredictor(FakePredictor):
    """Takes the target time for as many cells as it is told."""

    def __init__(self, cells_per_call: int) -> None:
        super().__init__()
        self.seconds_per_cell = TARGET_CALL_S / cells_per_call

    def __call__(self, cells: Cells) -> PredictionBatch:
        predictions = super().__call__(cells)
        time.sleep(len(cells) * self.seconds_per_cell)
        return predictions


def test_a_few_cells_overtake_many_and_many_get_their_turn() -> None:
    network = SlowPredictor(FIRST_BATCH)
    batcher, order = Batcher(network), []

    def submit(name: str, n: int) -> Future[PredictionBatch]:
        future = batcher.submit(cells(*[1] * n))
        future.add_done_callback(lambda _: order.append(name))
        return future

    def submit_small(_: object = None) -> None:
        if "larger" not in order:
            submit("small", 1).add_done_callback(submit_small)

    first = submit("first", 1)
    assert network.started.wait(5)
    waiting = [submit("large", 3 * FIRST_BATCH), submit("larger", 6 * FIRST_BATCH)]
    for _ in range(FIRST_BATCH):
        submit_small()
    network.released.set()
    for future in (first, *waiting):
        future.result(20)
    batcher.close()
    assert order[:2] == ["first", "small"]
    assert order.index("large") < order.index("larger")


def test_a_slow_network_gets_fewer_cells_per_call() -> None:
    network = SlowPredictor(20)
    network.released.set()
    batcher = Batcher(network)
    assert len(batcher.submit(cells(*[1] * 100)).result(20)) == 100
    batcher.close()
    assert max(network.sizes) <= 20
    assert sum(network.sizes) == 100


def test_a_busy_machine_gets_single_cells_until_it_is_free_again(batcher: Batcher) -> None:
    sizes = []
    for n_cells, seconds in ((4, 1.0), (2, 1.0), (1, 1.0), (1, 0.001), (40, 40 * TARGET_CALL_S / 20)):
        batcher._adapt_size(n_cells, seconds)
        sizes.append(batcher.max_batch)
    assert sizes == [2, 1, 1, 50, 25]


def test_waiting_for_expected_cells_is_bounded(batcher: Batcher, network: FakePredictor) -> None:
    network.released.set()
    with batcher.expect_more():
        assert batcher.submit(cells(1)).result(5).probabilities[0, 0] == 1
    assert network.sizes == [1]


def test_a_full_queue_rejects_jobs_and_goes_on(batcher: Batcher, network: FakePredictor) -> None:
    batcher.submit(cells(1))
    assert network.started.wait(5)
    waiting = [batcher.submit(cells(i)) for i in range(6)]
    with pytest.raises(RequestRejected, match="busy") as raised:
        batcher.submit(cells(7))
    assert raised.value.status == 503
    network.released.set()
    assert [future.result(5).probabilities[0, 0] for future in waiting] == list(range(6))


def test_a_failure_reaches_its_own_jobs_and_the_next_one_succeeds(batcher: Batcher, network: FakePredictor) -> None:
    network.released.set()
    with pytest.raises(RuntimeError, match="broken"):
        batcher.submit(cells(255)).result(5)
    assert batcher.submit(cells(3)).result(5).probabilities[0, 0] == 3


def test_without_dynamic_batching_each_job_is_a_call(network: FakePredictor) -> None:
    batcher = Batcher(network, dynamic_batching=False)
    network.released.set()
    for future in [batcher.submit(cells(i, i)) for i in range(4)]:
        future.result(5)
    assert network.sizes == [2, 2, 2, 2]
    batcher.close()


def _wait_until_closed(batcher: Batcher) -> None:
    for _ in range(400):
        try:
            batcher.submit(cells(3)).cancel()
        except RequestRejected:
            return
        time.sleep(0.01)
    raise AssertionError("the batcher still accepts jobs")


def test_closing_rejects_waiting_and_new_jobs(network: FakePredictor) -> None:
    batcher = Batcher(network)
    first = batcher.submit(cells(1))
    assert network.started.wait(5)
    waiting = batcher.submit(cells(2))
    closing = threading.Thread(target=batcher.close)
    closing.start()
    _wait_until_closed(batcher)
    network.released.set()
    closing.join(5)
    assert first.result(5).probabilities[0, 0] == 1
    with pytest.raises(RequestRejected) as waiting_error:
        waiting.result(5)
    with pytest.raises(RequestRejected) as new_error:
        batcher.submit(cells(3))
    assert waiting_error.value.status == new_error.value.status == 503
