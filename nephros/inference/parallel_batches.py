"""Many cells at once in ONNX Runtime: each core runs the network on cells of its own, in a session of one thread.

A session of several threads divides every operator among them, and each waits for the slowest, many times per batch: beside
another busy process, or while files are read, the other cores are idle then. With cells of their own they wait once.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from nephros.inference.onnx_session import MAX_BATCH_PIXELS, ForwardFn

MIN_PART_PIXELS, MAX_PART_PIXELS = 16 * 28 * 28, 64 * 28 * 28
"""Pixels of the cells of one call on one core: with fewer a core is slower, with more the last part keeps the others waiting."""


def cell_parallel_forward_fn(whole: ForwardFn, open_single: Callable[[], ForwardFn], n_threads: int) -> ForwardFn:
    """Return a network that divides many cells among `n_threads` threads.

    Args:
        whole: the network in a session of several threads, which takes a few cells sooner.
        open_single: opens it in a session of one thread; called when there are many cells for the first time.
        n_threads: at least 2.
    """
    lock = threading.Lock()
    executor: ThreadPoolExecutor | None = None
    single = whole

    def forward(cells: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        nonlocal executor, single
        pixels_per_cell = max(1, math.prod(cells.shape[1:3]) * (cells.shape[3] if cells.ndim == 4 else 1))
        n_cells = part_size(len(cells), pixels_per_cell, n_threads)
        if n_cells >= len(cells):
            return whole(cells)
        with lock:
            if executor is None:
                single = open_single()
                executor = ThreadPoolExecutor(n_threads, "nephros-network")
        parts = [cells[start : start + n_cells] for start in range(0, len(cells), n_cells)]
        outputs = list(executor.map(single, parts))
        return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}

    return forward


def part_size(n_cells: int, pixels_per_cell: int, n_threads: int) -> int:
    """Return how many of `n_cells` one core takes at a time; the more cores, the fewer, since each needs memory for its own."""
    smallest, largest = (max(1, pixels // pixels_per_cell) for pixels in (MIN_PART_PIXELS, MAX_PART_PIXELS))
    in_memory = MAX_BATCH_PIXELS // pixels_per_cell // n_threads
    return max(smallest, min(largest, in_memory, math.ceil(n_cells / n_threads)))


def count_threads(threads: int) -> int:
    """Return the number of threads that `threads` means in `nephros.inference.onnx_session.create_session`."""
    omp_num_threads = os.environ.get("OMP_NUM_THREADS", "")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return threads or (int(omp_num_threads) if omp_num_threads.isdecimal() else 0) or available
