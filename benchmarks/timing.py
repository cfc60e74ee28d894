"""Contenders that take turns, and what their rates say."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from benchmarks.common import BenchmarkConfig

Contender = Callable[[float], float]
"""Works for about so many seconds and returns its rate, in units of work a second."""


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def mean_rate(work: Iterator[float], device: torch.device) -> Contender:
    """Return a contender that pulls units of work from an endless iterator; its rate is all of them over all the time."""

    def turn(seconds: float) -> float:
        synchronize(device)
        start, n_units = time.perf_counter(), 0.0
        while not n_units or time.perf_counter() - start < seconds:
            n_units += next(work)
        synchronize(device)
        return n_units / (time.perf_counter() - start)

    return turn


def best_rate(work: Iterator[float], device: torch.device) -> Contender:
    """Return a contender whose rate is that of its fastest single unit of work: for physical limits."""

    def turn(seconds: float) -> float:
        end, best = time.perf_counter() + seconds, 0.0
        while not best or time.perf_counter() < end:
            best = max(best, mean_rate(work, device)(0.0))
        return best

    return turn


def interleave(contenders: Mapping[str, Contender], config: BenchmarkConfig) -> dict[str, list[float]]:
    """Return each contender's rates, one a round; all take a turn in each round, every other round in reverse order.

    Rates of one round were measured within seconds of each other, so their ratio bears a machine that is busy at times.
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
    """Return the median, least and greatest of the rounds' values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> dict[str, float]:
    """Return the summary of the ratios, round by round."""
    return summary([a / b for a, b in zip(numerator, denominator, strict=True)])
