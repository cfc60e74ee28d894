"""Workers that hang, crash or take memory are killed and replaced; the jobs of others are done."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nephros.errors import FileError, InvalidArgument
from nephros.isolation.pool import PoolBusy, TimeBudget, TimeLimitExceeded, WorkerCrashed, WorkerPool
from tests.isolation import jobs
from tests.killing import kill

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(1, max_memory=2 << 30)
    yield pool
    pool.close()


def run(pool: WorkerPool, function: Any, *args: Any, seconds: float = 60) -> list[Any]:
    return list(pool.run(function, *args, budget=TimeBudget(seconds)))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_values_arrive_as_they_are(pool: WorkerPool) -> None:
    values: list[Any] = [None, True, 3, 0.1, "é\udcff\n", b"\x00\xff", [1, [2, []]], {"a": {"b": b"x"}}, 2**80]
    assert run(pool, jobs.echo, *values) == values
    for array in (
        np.arange(6, dtype=">u2").reshape(2, 3).T,
        np.zeros((0, 4), np.float32),
        np.array(3.5),
        np.eye(3) > 0,
    ):
        (copy,) = run(pool, jobs.echo, array)
        assert (copy.dtype, copy.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(copy, array)
    assert run(pool, jobs.generator_of_nothing) == []
    assert run(pool, jobs.print_text) == [1]


def test_many_and_large_items_arrive_in_order(pool: WorkerPool) -> None:
    for n, size in ((2000, 3), (7, 5 << 20)):
        items = run(pool, jobs.arrays, n, size)
        assert [i for _, i in items] == list(range(n))
        assert all((array == i % 251).all() and array.nbytes == size for array, i in items)


def test_a_worker_is_used_again_and_knows_its_modules() -> None:
    pool = WorkerPool(2, modules=["nephros.data.images.decoding"])
    pool.start()
    assert len(pool.pids) == 2
    assert {run(pool, jobs.process_id)[0] for _ in range(4)} <= set(pool.pids)
    assert run(pool, jobs.imported, "nephros.data.images.decoding") == [True]
    assert run(pool, jobs.imported, "torch") == [False]
    pids = pool.pids
    pool.close()
    assert not any(map(is_alive, pids))


@pytest.mark.parametrize("function", [jobs.hang, jobs.hang_holding_the_interpreter])
def test_a_job_that_hangs_is_killed_and_the_next_one_runs(pool: WorkerPool, function: Any) -> None:
    (pid,) = run(pool, jobs.process_id)
    budget = TimeBudget(0.5)
    with pytest.raises(TimeLimitExceeded):
        list(pool.run(function, budget=budget))
    assert budget.left <= 0
    assert not is_alive(pid)
    assert run(pool, jobs.process_id) != [pid]
    assert len(pool.pids) == 1


def test_items_before_the_end_of_a_job_are_not_lost(pool: WorkerPool) -> None:
    for function, error in ((jobs.raise_file_error, FileError), (jobs.raise_other, RuntimeError)):
        args = ["a.png"] if function is jobs.raise_file_error else []
        items: list[Any] = []
        with pytest.raises(error):
            items.extend(pool.run(function, *args, budget=TimeBudget(60)))
        assert items == [1]


def test_errors_keep_their_class_and_fields(pool: WorkerPool) -> None:
    (pid,) = run(pool, jobs.process_id)
    with pytest.raises(FileError) as file_error:
        run(pool, jobs.raise_file_error, "a.png")
    assert (str(file_error.value.path), str(file_error.value)) == ("a.png", "a.png is damaged.")
    with pytest.raises(InvalidArgument) as invalid:
        run(pool, jobs.raise_invalid_argument)
    error = invalid.value
    assert (error.parameter, error.value, error.expected, error.hint) == ("channel", 7, "0 to 2", "Choose one.")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        run(pool, jobs.raise_other)
    assert run(pool, jobs.process_id) == [pid]


def test_a_crash_and_a_lack_of_memory_end_one_job(pool: WorkerPool) -> None:
    with pytest.raises(WorkerCrashed):
        run(pool, jobs.crash)
    with pytest.raises(MemoryError):
        run(pool, jobs.take_memory, 3 << 30)
    assert run(pool, jobs.take_memory, 1 << 20) == [1 << 20]


def test_a_worker_that_died_between_jobs_costs_none(pool: WorkerPool) -> None:
    (pid,) = run(pool, jobs.process_id)
    kill([pid])
    assert run(pool, jobs.process_id) != [pid]


def test_a_consumer_that_stops_early_leaves_no_worker_behind(pool: WorkerPool) -> None:
    (pid,) = run(pool, jobs.process_id)
    items = pool.run(jobs.arrays, 1000, 1 << 20, budget=TimeBudget(60))
    next(items)
    items.close()
    assert not is_alive(pid)
    assert run(pool, jobs.echo, 1) == [1]


def test_a_budget_covers_several_jobs_but_not_their_consumer(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = TimeBudget(1000)
    run(pool, jobs.echo, 1)  # starts the worker
    left = [budget.left]
    for _ in range(2):
        assert list(pool.run(jobs.echo, 1, budget=budget)) == [1]
        left.append(budget.left)
    assert left[0] > left[1] > left[2]
    with monkeypatch.context() as patch:
        now = [time.monotonic()]
        patch.setattr("nephros.isolation.pool.time", SimpleNamespace(monotonic=lambda: now[0]))
        for _ in pool.run(jobs.echo, 1, budget=budget):
            now[0] += 10_000
    assert budget.left == left[2]
    budget.left = 0.1
    with pytest.raises(TimeLimitExceeded):
        list(pool.run(jobs.hang, budget=budget))


def test_jobs_of_several_threads_share_the_workers() -> None:
    pool = WorkerPool(2)
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda i: run(pool, jobs.echo, i), range(40)))
    assert results == [[i] for i in range(40)]
    assert len(pool.pids) <= 2
    pool.close()


def test_a_full_pool_says_so(pool: WorkerPool) -> None:
    occupied = pool.run(jobs.arrays, 1000, 1 << 20, budget=TimeBudget(60))
    next(occupied)
    with pytest.raises(PoolBusy):
        list(pool.run(jobs.echo, 1, budget=TimeBudget(60), wait_s=0.1))
    occupied.close()
    assert run(pool, jobs.echo, 1) == [1]


@pytest.mark.slow
@pytest.mark.parametrize("function", ["hang", "hang_holding_the_interpreter"])
def test_workers_end_with_their_parent(function: str, tmp_path: Path) -> None:
    """Also where the parent is killed and can't say goodbye; the processor's time bounds what no thread can interrupt."""
    started = tmp_path / "started"
    code = f"""
        import threading, time
        from nephros.isolation.pool import TimeBudget, WorkerPool
        from tests.isolation import jobs
        pool = WorkerPool(1)
        (pid,) = pool.run(jobs.process_id, budget=TimeBudget(60))
        job = pool.run(jobs.{function}, {str(started)!r}, budget=TimeBudget(5))
        threading.Thread(target=lambda: list(job), daemon=True).start()
        print(pid, flush=True)
        time.sleep(600)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    _wait_until(started.exists)
    process.kill()
    process.wait()
    process.stdout.close()
    _wait_until(lambda: not is_alive(pid))


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_pool_that_closes_while_a_worker_starts_is_busy() -> None:
    pool = WorkerPool(1, modules=["tests.isolation.endless_import"])
    with ThreadPoolExecutor(1) as threads:
        job = threads.submit(run, pool, jobs.echo, 1)
        _wait_until(lambda: bool(pool.pids))
        pool.close()
        with pytest.raises(PoolBusy):
            job.result(60)


def test_modules_are_not_taken_from_the_current_folder(tmp_path: Any) -> None:
    """A folder of images may hold a file that is called like a module."""
    (tmp_path / "json.py").write_text("raise SystemExit('taken from the current folder')")
    code = (
        f"import sys; sys.path = [*(p for p in sys.path if p), {str(_ROOT)!r}]\n"
        "from nephros.isolation.pool import TimeBudget, WorkerPool\n"
        "from tests.isolation import jobs\n"
        "print(list(WorkerPool(1).run(jobs.echo, 7, budget=TimeBudget(60))))"
    )
    result = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout == "[7]\n", result.stderr
