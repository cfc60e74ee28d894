"""The table of the comparison: one row a method, each figure the median (least to greatest) of the seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from benchmarks.common import Row, table
from benchmarks.timing import summary
from benchmarks.tuners.curves import at, best_so_far, reaches
from benchmarks.tuners.run import Record

REFERENCE = "random"
"""The method whose final best the others are timed to."""
NAMES = {
    "ours": "nephros",
    "random": "random search",
    "optuna": "Optuna HyperbandPruner",
    "ray": "Ray Tune HyperBandScheduler",
}


def by_method(records: list[Record]) -> dict[str, list[Record]]:
    """Return the records of each method, in the order in which the methods come."""
    methods = dict.fromkeys(record.terms.method for record in records)
    return {method: [record for record in records if record.terms.method == method] for method in methods}


def rows(records: list[Record]) -> list[Row]:
    """Return a row a method."""
    return [_row(method, found, records) for method, found in by_method(records).items()]


def _row(method: str, found: list[Record], records: list[Record]) -> Row:
    """Return one method's row; times are compared with those of other methods with the same seed."""
    budget = found[0].terms.epochs

    def over(figure: Callable[[Record], float]) -> dict[str, float] | None:
        figures = [figure(record) for record in found]
        return summary(figures) if np.isfinite(figures).all() else None  # before the end of a first epoch

    def best_at(share: float) -> dict[str, float] | None:
        return over(lambda record: float(at(*_epochs(record), share * budget)))

    row: Row = {"method": NAMES[method], "epochs_spent": over(lambda record: float(len(record.events)))}
    row |= {"trials": over(lambda record: float(len(record.params)))}
    row |= {"best_at_a_third_of_the_epochs": best_at(1 / 3), "best_at_two_thirds": best_at(2 / 3)}
    row |= {"best_at_the_end": best_at(1.0)}
    row |= {"best_when_the_fastest_was_through": over(lambda record: _when_fastest(record, records))}
    row |= {"its_accuracy_on_all_of_validation": over(lambda record: record.choice.whole)}
    if any(record.terms.method == REFERENCE for record in records):
        row |= {
            "epochs_to_the_best_of_random_search": _listed(_reached(record, records, _epochs) for record in found),
            "seconds_to_it": _listed(_reached(record, records, _seconds) for record in found),
        }
    row |= {"seconds_in_all": over(lambda record: record.seconds), "of_them_start_up": over(lambda r: r.startup)}
    return row | {"share_of_the_workers_time_spent_training": over(_training)}


def _epochs(record: Record) -> tuple[Any, Any]:
    epochs, _, best = best_so_far(record)
    return epochs, best


def _seconds(record: Record) -> tuple[Any, Any]:
    _, seconds, best = best_so_far(record)
    return seconds, best


def _training(record: Record) -> float:
    """Return the share of the workers' time that went into training epochs, judging them not counted."""
    return sum(event.took for event in record.events) / (record.seconds * record.terms.workers)


def _when_fastest(record: Record, records: list[Record]) -> float:
    """Return the best value by the time at which the first method was through with this seed."""
    first = min(other.seconds for other in records if other.terms.seed == record.terms.seed)
    return float(at(*_seconds(record), first))


def _reached(record: Record, records: list[Record], axis: Callable[[Record], tuple[Any, Any]]) -> float | None:
    """Return what it took to reach the best of random search with the same seed."""
    for other in records:
        if other.terms.method == REFERENCE and other.terms.seed == record.terms.seed:
            return reaches(*axis(record), float(np.max(best_so_far(other)[2])))
    return None


def _listed(values: Iterable[float | None]) -> str:
    """Return each seed's figure: a median would hide those that never got there."""
    return ", ".join("never" if value is None else f"{value:.0f}" for value in values)


def markdown(title: str, found: list[Row], records: list[Record]) -> str:
    """Return the table turned over (a column a method) with what its figures mean and depend on."""
    headers, cells = table(found)
    lines = [f"**{title}**", "", f"| {headers[0]} | {' | '.join(line[0] for line in cells)} |"]
    lines += ["---".join("|" * (len(cells) + 2))]
    lines += [f"| {head} | {' | '.join(line[i] for line in cells)} |" for i, head in enumerate(headers) if i]
    seeds = sorted({record.terms.seed for record in records})
    made = records[0].made
    loads = [f"{record.made['hardware']['load_before']:.1f}" for record in records]
    lines += [
        "",
        "Best is the greatest validation accuracy of any epoch of any trial so far, on a quarter as many validation images "
        "as there are training images. That epoch's weights, made once more, gave the accuracy on all of validation. "
        f"Median (least to greatest) of the seeds {', '.join(map(str, seeds))}; lists are in the order of the seeds.",
        *_otherwise(records),
        "",
        f"{made['hardware']['cpu']}, {made['hardware']['cores']} cores; {_versions(records)}; commit {made['commit']}; "
        f"{made['created']}; load before each run {', '.join(loads)}.",
    ]
    return "\n".join(lines) + "\n"


def _otherwise(records: list[Record]) -> list[str]:
    """Return a sentence on the runs whose best epoch, made once more, came out otherwise, if there are any."""
    other = [record for record in records if record.choice.again != record.choice.value]
    names = ", ".join(f"{NAMES[record.terms.method]} with seed {record.terms.seed}" for record in other)
    return [f"Made once more, it came out otherwise for {names}."] if other else []


def _versions(records: list[Record]) -> str:
    found = {f"{name} {version}": None for record in records for name, version in record.made["versions"].items()}
    return ", ".join(found)
