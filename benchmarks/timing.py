"""Contenders that take turns, and summaries of their rates."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from benchmarks.common import BenchmarkConfig

Contender = Callable[[float], float]
"""Works for about the given number of seconds and returns its rate, in units of work per second."""


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def mean_rate(work: Iterator[float], device: torch.device) -> Contender:
    """Return a contender that takes units of work from an endless iterator; its rate is total work over total time."""

    def turn(seconds: float) -> float:
        synchronize(device)
        start, n_units = time.perf_counter(), 0.0
        while not n_units or time.perf_counter() - start < seconds:
            n_units += next(work)
        synchronize(device)
        return n_units / (time.perf_counter() - start)

    return turn


def best_rate(work: Iterator[float], device: torch.device) -> Contender:
    """Return a contender whose rate is that of its fastest unit of work, for physical limits."""

    def turn(seconds: float) -> float:
        end, best = time.perf_counter() + seconds, 0.0
        while not best or time.perf_counter() < end:
            best = max(best, mean_rate(work, device)(0.0))
        return best

    return turn


def interleave(contenders: Mapping[str, Contender], config: BenchmarkConfig) -> dict[str, list[float]]:
    """Return each contender's rates, one per round; all take a turn in each round, in reverse order every other round.

    Rates of one round are measured within seconds of each other, so their ratio tolerates a machine that is busy at times.
    """
    names = list(contenders)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        contenders[name](config.seconds / 2)
    for round_ in range(config.repeats):
        for name in names if round_ % 2 == 0 else reversed(names):
            rates[name].append(contenders[name](config.seconds))
    return rates


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median, minimum and maximum over the rounds."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> dict[str, float]:
    """Return the summary of the ratios of each round."""
    return summary([a / b for a, b in zip(numerator, denominator, strict=True)])
