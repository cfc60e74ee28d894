"""Many cells are divided among the cores, and each cell's outputs are those of a single call."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.inference.bundled import bundled_file
from nephros.inference.onnx_session import MAX_BATCH_PIXELS, onnx_forward_fn
from nephros.inference.parallel_batches import cell_parallel_forward_fn, count_threads, part_size
from nephros.inference.runtimes import open_network

PIXELS = 28 * 28


def cells(n: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, *(shape or (28, 28))), dtype=np.uint8)


@pytest.mark.parametrize("n_threads", [2, 3, 16, 64])
@pytest.mark.parametrize("pixels", [16, PIXELS, 3 * PIXELS, 224 * 224, 2048 * 2048])
@pytest.mark.parametrize("n_cells", [1, 15, 16, 33, 256, 2048])
def test_parts_are_neither_tiny_nor_larger_than_memory_allows(n_cells: int, pixels: int, n_threads: int) -> None:
    size = part_size(n_cells, pixels, n_threads)
    assert size >= 1
    assert size == 1 or size * pixels <= MAX_BATCH_PIXELS // 4
    n_parts = -(-n_cells // size)
    assert n_parts == 1 or size * pixels >= min(pixels, 16 * PIXELS - pixels)


def test_few_cells_go_to_all_threads_together_and_many_in_parts() -> None:
    calls: list[tuple[str, int]] = []

    def network(name: str) -> object:
        def forward(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
            calls.append((name, len(batch)))
            return {"sums": batch.sum((1, 2), dtype=np.float32)}

        return forward

    opened: list[None] = []
    forward = cell_parallel_forward_fn(
        network("whole"),  # type: ignore[arg-type]
        lambda: opened.append(None) or network("single"),  # type: ignore[arg-type,func-returns-value,return-value]
        2,
    )
    for n in (0, 1, 16):
        forward(cells(n))
    assert calls == [("whole", 0), ("whole", 1), ("whole", 16)]
    assert not opened
    calls.clear()
    batch = cells(300)
    np.testing.assert_array_equal(forward(batch)["sums"], batch.sum((1, 2), dtype=np.float32))
    assert sorted(n for _, n in calls) == [44, 64, 64, 64, 64]
    assert {name for name, _ in calls} == {"single"}
    with ThreadPoolExecutor(4) as threads:
        for outputs in threads.map(forward, [batch] * 8):
            np.testing.assert_array_equal(outputs["sums"], batch.sum((1, 2), dtype=np.float32))
    assert len(opened) == 1


def test_an_error_in_a_part_reaches_the_caller() -> None:
    def fail(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        raise MemoryError(threading.current_thread().name)

    with pytest.raises(MemoryError, match="nephros-network"):
        cell_parallel_forward_fn(fail, lambda: fail, 2)(cells(100))


@pytest.mark.parametrize("name", ["model.onnx", "model-int8.onnx"])
def test_a_bundled_model_predicts_the_same_in_parts(name: str) -> None:
    model = bundled_file(name).read_bytes()
    forward, is_on_gpu = open_network(model, "cpu", 2, "onnxruntime")
    assert not is_on_gpu
    batch = cells(50)
    expected, actual = onnx_forward_fn(model, 1)(batch), forward(batch)
    assert set(actual) == set(expected)
    for output, values in expected.items():
        np.testing.assert_allclose(actual[output], values, rtol=0, atol=1e-6 * max(1.0, float(np.abs(values).max())))


def test_threads_are_counted_as_the_runtime_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert (count_threads(0), count_threads(5)) == (3, 5)
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert count_threads(0) >= 1
