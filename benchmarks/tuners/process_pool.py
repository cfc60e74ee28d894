"""Several processes that do the same work side by side, each knowing its place among them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

from benchmarks.tuners.budget_config import Terms


def side_by_side(work: Callable[[Terms, int], None], terms: Terms) -> None:
    """Run `work(terms, place)` in `terms.workers` fresh processes; RuntimeError when one of them fails."""
    context = multiprocessing.get_context("spawn")
    crew = [context.Process(target=work, args=(terms, place)) for place in range(terms.workers)]
    for process in crew:
        process.start()
    for process in crew:
        process.join()
    failed = [process.exitcode for process in crew if process.exitcode]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(crew)} processes of {terms.method} failed.")
