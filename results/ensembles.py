"""Write frontier-ensembles.csv, ensembles of the widest networks of the frontier: python -m results.ensembles RUNS [--read-test]

RUNS is a folder of the runs with their weights, in which probabilities are kept, so that each is computed once. --read-test reads
the test split for the best ensemble on validation. Each network's reading is logged in frontier-test-reads.jsonl beforehand, and
nothing is chosen on it; without the option, the figures of the last reading stay in the table.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.data.dataset import Dataset
from nephros.data.load import load_dataset
from nephros.evaluation.metrics import Metrics, compute_metrics
from nephros.evaluation.scoring import load_run_model
from nephros.exporters.inference_module import InferenceModule
from nephros.exporters.packaging import normalize_rows, run_module
from nephros.files import atomic_write, write_text
from nephros.runs import RunFolder
from nephros.text_tables import csv_table, format_number
from results.frontier import STUDENTS
from results.test_reads import log_test_read

HERE = Path(__file__).parent
TABLE = HERE / "frontier-ensembles.csv"
TEST_READS = HERE / "frontier-test-reads.jsonl"
ENSEMBLES = (*((name,) for name in STUDENTS), STUDENTS[:2], STUDENTS[1:], STUDENTS)
TEST_COLUMNS = ("test_accuracy", "test_low", "test_high", "test_macro_f1", "test_auc")


def ensemble_rows(
    runs: Path, dataset: Dataset, earlier: Sequence[dict[str, str]] = (), *, reads_test: bool = False
) -> list[dict[str, str]]:
    """Return a row per ensemble: mean probabilities of the image alone, in float32, on validation and, of the best, on test.

    Figures on test are those of `earlier` rows unless `reads_test`.
    """
    earlier_tests = {row["networks"]: {key: row.get(key, "") for key in TEST_COLUMNS} for row in earlier}
    metrics = {names: _mean_metrics(names, runs, dataset, "val") for names in ENSEMBLES}
    best = max((names for names in ENSEMBLES if len(names) > 1), key=lambda names: metrics[names].accuracy)
    rows = []
    for names in ENSEMBLES:
        row = {"networks": " + ".join(names), **_cells("val", metrics[names])}
        row |= earlier_tests.get(row["networks"], dict.fromkeys(TEST_COLUMNS, ""))
        if reads_test and names == best:
            test = _mean_metrics(names, runs, dataset, "test")
            interval = {"low": test.accuracy_interval.low, "high": test.accuracy_interval.high}
            row |= _cells("test", test) | {f"test_{end}": format_number(value) for end, value in interval.items()}
        row["multiply_adds"] = str(sum(RunFolder.open(runs / name).info().multiply_adds for name in names))
        rows.append(row)
    return rows


def _cells(split: str, metrics: Metrics) -> dict[str, str]:
    figures = {"accuracy": metrics.accuracy, "macro_f1": metrics.macro_f1, "auc": metrics.auc}
    return {f"{split}_{name}": format_number(value) for name, value in figures.items()}


def _mean_metrics(names: Sequence[str], runs: Path, dataset: Dataset, split: str) -> Metrics:
    mean = np.mean([_probabilities(runs / name, dataset, split) for name in names], axis=0)
    return compute_metrics(mean, dataset.split(split).labels, dataset.class_names)


def _probabilities(run: Path, dataset: Dataset, split: str) -> NDArray[np.float64]:
    """Return a run's (n, classes) probabilities, which are kept beside its weights; logs a read of test beforehand."""
    file = run / split / "image-alone.npz"
    if not file.is_file():
        folder = RunFolder.open(run)
        module = InferenceModule(load_run_model(folder), 1)
        if split == "test":
            log_test_read(TEST_READS, run.name, folder.info().weights_sha256, 1, dataset)
        file.parent.mkdir(exist_ok=True)
        with atomic_write(file) as stream:
            np.savez_compressed(
                stream, p=normalize_rows(run_module(module, dataset.split(split).images)["probabilities"])
            )
    with np.load(file) as stored:
        return np.asarray(stored["p"], dtype=np.float64)


def main(argv: list[str]) -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(prog="python -m results.ensembles")
    parser.add_argument("runs", type=Path, help="folder of the runs with their weights")
    parser.add_argument("--read-test", action="store_true", help="read the test split for the best ensemble")
    options = parser.parse_args(argv)
    with open(TABLE, encoding="utf-8", newline="") as file:
        earlier = list(csv.DictReader(file))
    rows = ensemble_rows(options.runs, load_dataset("tissuemnist"), earlier, reads_test=options.read_test)
    write_text(TABLE, csv_table(list(rows[0]), [list(row.values()) for row in rows]))


if __name__ == "__main__":
    main(sys.argv[1:])
