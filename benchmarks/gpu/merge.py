"""Put what came home where it belongs: python -m benchmarks.gpu.merge HOME [HOME ...]

Runs go to runs/PLAN/NAME, where `nephros reproduce` finds them, and the records of complete ones of the frontier to
results/frontier-runs; draws of the transfer experiment go to runs/transfer/rows.csv and into its tables, records of benchmarks to
benchmarks/results. What is there already stays, so that it can be repeated.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from benchmarks.common import RESULTS
from benchmarks.gpu.draws import rows_so_far
from benchmarks.gpu.home import unpack
from benchmarks.gpu.networks import is_complete
from nephros.escaping import without_folders
from nephros.experiments.transfer import LABELS_PER_CLASS, transfer_tasks
from nephros.files import write_json
from nephros.reporting.transfer import write_transfer_table
from nephros.training.history import read_history
from nephros.workflows.transfer import write_rows

PLANS = ("transfer", "nephros", "gpu", "frontier")
RECORD = ("run.json", "recipe.yaml", "history.csv", "val/metrics.json")
"""Files of a run that `results.frontier` reads."""


def merge(home: Path, runs: Path, tables: Path, records: Path) -> None:
    """Add one home to the folders of runs, of tables and of records."""
    with tempfile.TemporaryDirectory() as scratch:
        unpacked = Path(scratch)
        unpack(home, unpacked)
        for plan in PLANS:
            for run in sorted(unpacked.glob(f"{plan}/*/run.json")):
                merge_run(run.parent, runs / plan / run.parent.name)
        for run in sorted(unpacked.glob("frontier/*/run.json")):
            merge_record(run.parent, tables / "frontier-runs" / run.parent.name)
        merge_draws(unpacked, runs, tables)
        for file in sorted(unpacked.glob("records/*.json")):
            merge_records(file, records / file.name)


def merge_run(new: Path, target: Path) -> None:
    """Copy a run, unless one that is as far is there."""
    if _progress(target) < _progress(new):
        shutil.copytree(new, target, dirs_exist_ok=True)
        epochs, complete = _progress(target)
        print(f"{target}: {epochs} epochs, {'complete' if complete else 'to be resumed'}")


def merge_record(run: Path, target: Path) -> None:
    """Copy the record of a complete run, unless there is one of that name."""
    if target.exists() or not is_complete(run):
        return
    for name in RECORD:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(without_folders((run / name).read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{target}: a record")


def _progress(run: Path) -> tuple[int, bool]:
    """Return the epochs of a run, and whether it is complete."""
    history = run / "history.csv"
    return len(read_history(history)) if history.is_file() else 0, is_complete(run)


def merge_draws(unpacked: Path, runs: Path, tables: Path) -> None:
    """Add draws to those in the tables, and write both rows and tables."""
    earlier = tables / "transfer-draws.csv"
    rows = rows_so_far(unpacked, earlier if earlier.is_file() else None)
    tasks = [task.key for task in transfer_tasks()]
    rows.sort(key=lambda row: (tasks.index(row.task), LABELS_PER_CLASS.index(row.labels_per_class), row.draw))
    if rows:
        write_rows(runs / "transfer" / "rows.csv", rows)
        print(*write_transfer_table(rows, tables), sep="\n")


def merge_records(new: Path, target: Path) -> None:
    """Append the records of a benchmark that are not there."""
    earlier = json.loads(target.read_text(encoding="utf-8")) if target.is_file() else []
    added = [record for record in json.loads(new.read_text(encoding="utf-8")) if record not in earlier]
    write_json(target, [*earlier, *added])
    print(f"{target}: {len(added)} new records")


def main() -> None:
    """Merge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("homes", type=Path, nargs="+")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--tables", type=Path, default=RESULTS.parents[1] / "results")
    parser.add_argument("--records", type=Path, default=RESULTS)
    args = parser.parse_args()
    for home in args.homes:
        merge(home, args.runs, args.tables, args.records)


if __name__ == "__main__":
    main()
