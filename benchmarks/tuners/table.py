"""The table of the comparison: one row per method, each number the median (minimum to maximum) of the seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from benchmarks.common import Row, format_table
from benchmarks.timing import summary
from benchmarks.tuners.curves import best_so_far, cost_to_reach, value_at
from benchmarks.tuners.run import TunerRun
from nephros.text_tables import markdown_table

REFERENCE = "random"
"""The method whose final best is the target of the other methods' times."""
NAMES = {
    "nephros": "nephros",
    "random": "random search",
    "optuna": "Optuna HyperbandPruner",
    "ray": "Ray Tune HyperBandScheduler",
}


def by_method(records: list[TunerRun]) -> dict[str, list[TunerRun]]:
    """Return the records of each method, in order of first appearance."""
    methods = dict.fromkeys(record.config.method for record in records)
    return {method: [record for record in records if record.config.method == method] for method in methods}


def rows(records: list[TunerRun]) -> list[Row]:
    """Return one row per method."""
    return [_row(method, method_records, records) for method, method_records in by_method(records).items()]


def _row(method: str, method_records: list[TunerRun], records: list[TunerRun]) -> Row:
    """Return a method's row; its times are compared with those of other methods with the same seed."""
    budget = method_records[0].config.total_epochs

    def summarize(statistic: Callable[[TunerRun], float]) -> dict[str, float] | None:
        statistics = [statistic(record) for record in method_records]
        return (
            summary(statistics) if np.isfinite(statistics).all() else None
        )  # infinite before the end of the first epoch

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
    """Return the share of the workers' time spent training, validation not included."""
    return sum(event.training_seconds for event in record.events) / (record.seconds * record.config.workers)


def _best_at_first_finish(record: TunerRun, records: list[TunerRun]) -> float:
    """Return the best value at the time when the first method finished with this seed."""
    first = min(other.seconds for other in records if other.config.seed == record.config.seed)
    return float(value_at(*_seconds_and_best(record), first))


def _cost_to_reference(
    record: TunerRun, records: list[TunerRun], axis: Callable[[TunerRun], tuple[Any, Any]]
) -> float | None:
    """Return the cost of reaching the best of random search with the same seed; None when it was not reached."""
    for other in records:
        if other.config.method == REFERENCE and other.config.seed == record.config.seed:
            return cost_to_reach(*axis(record), float(np.max(best_so_far(other)[2])))
    return None


def _per_seed(values: Iterable[float | None]) -> str:
    """Return each seed's number: a median would hide seeds that never reached the target."""
    return ", ".join("never" if value is None else f"{value:.0f}" for value in values)


def markdown(title: str, table_rows: list[Row], records: list[TunerRun]) -> str:
    """Return the transposed table (one column per method), and notes on what its numbers mean and depend on."""
    headers, cells = format_table(table_rows)
    transposed = [[header, *(line[i] for line in cells)] for i, header in enumerate(headers)]
    lines = [f"**{title}**", "", markdown_table(transposed[0], transposed[1:]).rstrip("\n")]
    seeds = sorted({record.config.seed for record in records})
    provenance = records[0].provenance
    load_averages = [f"{record.provenance['hardware']['load_before']:.1f}" for record in records]
    lines += [
        "",
        "Best is the highest validation accuracy of any epoch of any trial so far, on a quarter as many validation images as "
        "there are training images. The full val accuracy is that of the same epoch's weights, trained again, on the whole "
        f"validation split. Median (minimum to maximum) of the seeds {', '.join(map(str, seeds))}; lists are in seed order.",
        *_reproducibility_note(records),
        "",
        f"{provenance['hardware']['cpu']}, {provenance['hardware']['cores']} cores; {_versions(records)}; "
        f"commit {provenance['commit']}; "
        f"{provenance['created']}; load before each run {', '.join(load_averages)}.",
    ]
    return "\n".join(lines) + "\n"


def _reproducibility_note(records: list[TunerRun]) -> list[str]:
    """Return a sentence on the runs whose best epoch gave another value when trained again, if there are any."""
    mismatched = [record for record in records if record.best_trial.retrained_value != record.best_trial.value]
    names = ", ".join(f"{NAMES[record.config.method]} with seed {record.config.seed}" for record in mismatched)
    return [f"Trained again, it differed for {names}."] if mismatched else []


def _versions(records: list[TunerRun]) -> str:
    package_versions = {
        f"{name} {version}": None for record in records for name, version in record.provenance["versions"].items()
    }
    return ", ".join(package_versions)
