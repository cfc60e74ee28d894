"""nephros's Hyperband against random search, Optuna's HyperbandPruner and Ray Tune's HyperBandScheduler, at equal epochs.

Each run (a method with a seed) has its own record in --out; a second call adds those that are missing, and resumes a nephros
study that was interrupted. All search the recipe's default space at random, with two single-threaded trials at once.
Ray Tune runs in an environment of its own: python -m venv RAY && RAY/bin/pip install -c constraints.txt -e . 'ray[tune]'
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import get_args

import torch

from benchmarks.common import BenchmarkConfig, hardware_info, publish
from benchmarks.tuners.budget_config import DEVICE, BudgetConfig
from benchmarks.tuners.comparison_plot import plot_comparison
from benchmarks.tuners.run import METHOD_MODULES, TunerRun, python_for, run_tuner
from benchmarks.tuners.table import markdown, rows
from nephros.data.load import find_local_file, load_dataset
from nephros.errors import NephrosError
from nephros.files import write_text
from nephros.recipe import MetricName

OUTPUT_DIR = Path(__file__).parents[1] / "results" / "tuning"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed arguments, by default of the command line; exits 2 for invalid ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--methods", nargs="+", choices=METHOD_MODULES, default=list(METHOD_MODULES), help="default: all four"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--recipe", default="course-1", help="default: course-1")
    parser.add_argument("--max-epochs", type=int, default=27, help="R: the most for one trial (default: 27)")
    parser.add_argument("--eta", type=int, default=3, help="default: 3")
    parser.add_argument(
        "--metric",
        choices=get_args(MetricName),
        default="val_accuracy",
        help="metric that ranks trials; the table shows accuracy in any case (default: val_accuracy)",
    )
    parser.add_argument("--subset", type=int, default=10_000, help="training images (default: 10000)")
    parser.add_argument("--workers", type=int, default=2, help="trials at once (default: 2)")
    parser.add_argument(
        "--data", choices=("auto", "synthetic"), default="auto", help="auto: TissueMNIST where it is available"
    )
    parser.add_argument("--ray-python", metavar="PATH", help="python of an environment that has nephros and ray[tune]")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="for records, table and figure (default: results/tuning)"
    )
    parser.add_argument("--quick", action="store_true", help="R = 3 on 160 synthetic cells; its numbers mean nothing")
    args = parser.parse_args(argv)
    if args.quick:
        args.data, args.max_epochs, args.eta, args.subset, args.seeds = "synthetic", 3, 3, 160, [0]
    if "ray" in args.methods and args.ray_python is None:
        parser.error("--methods ray, which is among the default ones, needs --ray-python PATH.")
    return args


def make_config(args: argparse.Namespace, out: Path, method: str, seed: int) -> BudgetConfig:
    """Return the configuration of one run."""
    use_real_data = args.data == "auto" and find_local_file("tissuemnist") is not None
    return BudgetConfig(
        method=method,
        recipe=args.recipe,
        source="tissuemnist" if use_real_data else "synthetic",
        subset=args.subset,
        seed=seed,
        max_epochs=args.max_epochs,
        eta=args.eta,
        metric=args.metric,
        workers=args.workers,
        folder=str((out / ".work" / f"{method}-{seed}").absolute()),
        started_at=0.0,
    )


def collect_records(args: argparse.Namespace, out: Path) -> list[TunerRun]:
    """Read existing records and make missing ones, seed by seed, so that all methods progress alike."""
    records = []
    for seed in args.seeds:
        for method in args.methods:
            config, file = make_config(args, out, method, seed), out / f"{method}-{seed}.json"
            if file.exists():
                record = TunerRun.read(file)
                _check_config(record, config, file)
            else:
                print(f"{method}, seed {seed}: {config.total_epochs} epochs", file=sys.stderr, flush=True)
                record = run_tuner(config, python_for(method, args.ray_python), file)
                print(f"  {record.best_trial.value:.4f} in {record.seconds:.0f} s", file=sys.stderr, flush=True)
            records.append(record)
    return records


def _check_config(record: TunerRun, config: BudgetConfig, file: Path) -> None:
    for name in ("recipe", "source", "subset", "max_epochs", "eta", "metric", "workers"):
        recorded, requested = getattr(record.config, name), getattr(config, name)
        if recorded != requested:
            raise NephrosError(f"{file} was made with {name} {recorded}, not {requested}: give another --out.")


def run_report(args: argparse.Namespace, out: Path) -> None:
    """Make missing records, then print the table and write it with the figure."""
    records = collect_records(args, out)
    config = records[0].config
    data = load_dataset(config.source).provenance.title
    title = (
        f"Tuning {config.recipe} for {config.total_epochs} epochs (R = {config.max_epochs}, eta = {config.eta}), "
        f"{config.subset:,} images of {data}, {config.workers} trials at once, ranked by {config.metric}"
    )
    table_rows = rows(records)
    plot_comparison(records, data, out / "tuning.png")
    benchmark_config = BenchmarkConfig(
        "tuning", torch.device(DEVICE), args.data, len(args.seeds), 0.0, args.quick, None, hardware_info(), args
    )
    publish(benchmark_config, title, table_rows, data)
    write_text(out / "table.md", markdown(title, table_rows, records))


def main() -> None:
    """Run the benchmark."""
    args = parse_args()
    try:
        if args.quick and args.out is None:
            with tempfile.TemporaryDirectory() as folder:
                run_report(args, Path(folder))
        else:
            run_report(args, args.out or OUTPUT_DIR)
    except NephrosError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
