"""The table of the comparison: one row a method, each figure the median (least to greatest) of the seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from benchmarks.common import Row, format_table
from benchmarks.timing import summary
from benchmarks.tuners.curves import best_so_far, cost_to_reach, value_at
from benchmarks.tuners.run import TunerRun

REFERENCE = "random"
"""The method whose final best the others are timed to."""
NAMES = {
    "nephros": "nephros",
    "random": "random search",
    "optuna": "Optuna HyperbandPruner",
    "ray": "Ray Tune HyperBandScheduler",
}


def by_method(records: list[TunerRun]) -> dict[str, list[TunerRun]]:
    """Return the records of each method, in the order in which the methods come."""
    methods = dict.fromkeys(record.config.method for record in records)
    return {method: [record for record in records if record.config.method == method] for method in methods}


def rows(records: list[TunerRun]) -> list[Row]:
    """Return a row a method."""
    return [_row(method, method_records, records) for method, method_records in by_method(records).items()]


def _row(method: str, method_records: list[TunerRun], records: list[TunerRun]) -> Row:
    """Return one method's row; times are compared with those of other methods with the same seed."""
    budget = method_records[0].config.total_epochs

    def summarize(statistic: Callable[[TunerRun], float]) -> dict[str, float] | None:
        statistics = [statistic(record) for record in method_records]
        return summary(statistics) if np.isfinite(statistics).all() else None  # before the end of a first epoch

    def best_at(share: float) -> dict[str, float] | None:
        return summarize(lambda record: float(value_at(*_epochs_and_best(record), share * budget)))

    row: Row = {"method": NAMES[method], "epochs_spent": summarize(lambda record: float(len(record.events)))}
    row |= {"trials": summarize(lambda record: float(len(record.params)))}
    row |= {"best_at_third": best_at(1 / 3), "best_at_two_thirds": best_at(2 / 3)}
    row |= {"final_best": best_at(1.0)}
    row |= {"best_at_first_finish": summarize(lambda record: _best_at_first_finish(record, records))}
    row |= {"full_val_accuracy": summarize(lambda record: record.best_trial.full_val_accuracy)}
    if any(record.config.method == REFERENCE for record in records):
        row |= {
            "epochs_to_random_search_best": _per_seed(
                _cost_to_reference(record, records, _epochs_and_best) for record in method_records
            ),
            "seconds_to_random_search_best": _per_seed(
                _cost_to_reference(record, records, _seconds_and_best) for record in method_records
            ),
        }
    row |= {
        "total_seconds": summarize(lambda record: record.seconds),
        "startup_seconds": summarize(lambda r: r.startup),
    }
    return row | {"training_time_share": summarize(_training_share)}


def _epochs_and_best(record: TunerRun) -> tuple[Any, Any]:
    epochs, _, best = best_so_far(record)
    return epochs, best


def _seconds_and_best(record: TunerRun) -> tuple[Any, Any]:
    _, seconds, best = best_so_far(record)
    return seconds, best


def _training_share(record: TunerRun) -> float:
    """Return the share of the workers' time that went into training epochs, judging them not counted."""
    return sum(event.training_seconds for event in record.events) / (record.seconds * record.config.workers)


def _best_at_first_finish(record: TunerRun, records: list[TunerRun]) -> float:
    """Return the best value by the time at which the first method was through with this seed."""
    first = min(other.seconds for other in records if other.config.seed == record.config.seed)
    return float(value_at(*_seconds_and_best(record), first))


def _cost_to_reference(
    record: TunerRun, records: list[TunerRun], axis: Callable[[TunerRun], tuple[Any, Any]]
) -> float | None:
    """Return what it took to reach the best of random search with the same seed."""
    for other in records:
        if other.config.method == REFERENCE and other.config.seed == record.config.seed:
            return cost_to_reach(*axis(record), float(np.max(best_so_far(other)[2])))
    return None


def _per_seed(values: Iterable[float | None]) -> str:
    """Return each seed's figure: a median would hide those that never got there."""
    return ", ".join("never" if value is None else f"{value:.0f}" for value in values)


def markdown(title: str, table_rows: list[Row], records: list[TunerRun]) -> str:
    """Return the table turned over (a column a method) with what its figures mean and depend on."""
    headers, cells = format_table(table_rows)
    lines = [f"**{title}**", "", f"| {headers[0]} | {' | '.join(line[0] for line in cells)} |"]
    lines += ["---".join("|" * (len(cells) + 2))]
    lines += [f"| {header} | {' | '.join(line[i] for line in cells)} |" for i, header in enumerate(headers) if i]
    seeds = sorted({record.config.seed for record in records})
    provenance = records[0].provenance
    load_averages = [f"{record.provenance['hardware']['load_before']:.1f}" for record in records]
    lines += [
        "",
        "Best is the greatest validation accuracy of any epoch of any trial so far, on a quarter as many validation images "
        "as there are training images. That epoch's weights, made once more, gave the accuracy on all of validation. "
        f"Median (least to greatest) of the seeds {', '.join(map(str, seeds))}; lists are in the order of the seeds.",
        *_reproducibility_note(records),
        "",
        f"{provenance['hardware']['cpu']}, {provenance['hardware']['cores']} cores; {_versions(records)}; "
        f"commit {provenance['commit']}; "
        f"{provenance['created']}; load before each run {', '.join(load_averages)}.",
    ]
    return "\n".join(lines) + "\n"


def _reproducibility_note(records: list[TunerRun]) -> list[str]:
    """Return a sentence on the runs whose best epoch, made once more, came out otherwise, if there are any."""
    mismatched = [record for record in records if record.best_trial.retrained_value != record.best_trial.value]
    names = ", ".join(f"{NAMES[record.config.method]} with seed {record.config.seed}" for record in mismatched)
    return [f"Made once more, it came out otherwise for {names}."] if mismatched else []


def _versions(records: list[TunerRun]) -> str:
    package_versions = {
        f"{name} {version}": None for record in records for name, version in record.provenance["versions"].items()
    }
    return ", ".join(package_versions)
