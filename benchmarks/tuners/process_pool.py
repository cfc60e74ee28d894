"""Parallel processes that run the same function, each with its own index."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

from benchmarks.tuners.budget_config import BudgetConfig


def run_processes(target: Callable[[BudgetConfig, int], None], config: BudgetConfig) -> None:
    """Run `target(config, worker_index)` in `config.workers` new processes; RuntimeError when one of them fails."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, args=(config, worker_index)) for worker_index in range(config.workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    exit_codes = [process.exitcode for process in processes if process.exitcode]
    if exit_codes:
        raise RuntimeError(f"{len(exit_codes)} of {len(processes)} processes of {config.method} failed.")
