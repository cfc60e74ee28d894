"""Minutes from a cold process to saved weights, and their test scores: all of `nephros train`, loading data included.

Each network is trained in a new process. The clock stops when its weights are saved, before they are scored; soft targets of a
teacher, a bundled model, are within the time, and the teacher's own training is not. Matrix products in the precision of the
training, timed before and after, give the share of the machine's rate that training reached.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish
from benchmarks.timing import best_rate
from benchmarks.workloads import matrix_products
from nephros.device import autocast_dtype
from nephros.files import write_json
from nephros.presets import RECIPES
from nephros.runs import RunFolder
from nephros.training.history import count_images_seen, read_history

QUICK = ("--data", "synthetic", "--epochs", "1", "--passes_per_epoch", "1", "--model.base_channels", "8")


@dataclass(frozen=True)
class Goal:
    """A test accuracy, the minutes in which two CPU cores are to reach it, and the run that is to do so."""

    recipe: str
    options: tuple[str, ...]
    accuracy: float
    minutes: float
    teacher: str | None = None
    """A bundled model."""

    def command(self, teacher: str | None) -> list[str]:
        """Return the arguments of `nephros` that train it; the options come last, so they decide."""
        teacher_options = ["--teachers", teacher, "--distillation_weight", "0.9"] if teacher else []
        return ["train", self.recipe, *teacher_options, *self.options]


AUTOKERAS, BEST_AT_28_PIXELS = 0.703, 0.734
"""Published test accuracies."""

GOALS = {
    "nephros-fast": Goal("nephros-fast", ("--epochs", "6", "--optimizer.lr", "0.02"), AUTOKERAS, 5.0),
    "nephros-fast-taught": Goal(
        "nephros-fast",
        ("--epochs", "4", "--optimizer.lr", "0.02", "--tta_views", "1"),
        AUTOKERAS,
        5.0,
        "nephros-fast",  # it answers in a quarter of the default model's time
    ),
    "nephros": Goal("nephros", (), BEST_AT_28_PIXELS, 45.0),
    "nephros-taught": Goal(
        "nephros-distilled", ("--epochs", "8", "--tta_views", "1"), BEST_AT_28_PIXELS, 45.0, "nephros-distilled"
    ),
}
"""Run -> what it is to reach."""


def matmul_flops(config: BenchmarkConfig, dtype: torch.dtype | None) -> float:
    """Return the operations per second of the fastest of several matrix products."""
    return best_rate(matrix_products(config.device, dtype), config.device)(config.seconds)


def measure(name: str, seed: int, config: BenchmarkConfig, runs: Path) -> None:
    """Train a network in a new process, unless an earlier command has; keep its time, speed and scores."""
    row_file = runs / f"{name}-{seed}.json"
    if row_file.exists():
        return
    goal, run = GOALS[name], runs / f"{name}-{seed}"
    dtype = autocast_dtype(RECIPES[goal.recipe].amp, config.device)
    teacher = _quick_teacher(config, runs) if config.quick and goal.teacher else goal.teacher
    rates = [matmul_flops(config, dtype)]
    options = [*goal.command(teacher), "--seed", str(seed), "--test", "--out", str(run)]
    start_time = time.time()
    _nephros([*options, *(QUICK if config.quick else ())], config)
    minutes = (RunFolder.open(run).file("weights.safetensors").stat().st_mtime - start_time) / 60
    rates.append(matmul_flops(config, dtype))
    write_json(row_file, _row(name, RunFolder.open(run), minutes, max(rates), dtype))


def _kept_rows(runs: Path) -> list[Row]:
    """Return the rows of all runs that are kept, by network and seed."""
    rows: list[Row] = [json.loads(file.read_text(encoding="utf-8")) for file in runs.glob("*-*.json")]
    return sorted(rows, key=lambda row: (list(GOALS).index(row["run"]), row["seed"]))


def _quick_teacher(config: BenchmarkConfig, runs: Path) -> str:
    """Return a run on synthetic cells, which no bundled model knows."""
    run = runs / "teacher"
    if not run.exists():
        _nephros(["train", "nephros-fast", *QUICK, "--out", str(run)], config)
    return str(run)


def _nephros(args: list[str], config: BenchmarkConfig) -> None:
    command = [sys.executable, "-m", "nephros", *args, "--device", config.device.type]
    if exit_status := subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        sys.exit(exit_status)  # it has printed the reason


def _row(name: str, folder: RunFolder, minutes: float, flops: float, dtype: torch.dtype | None) -> Row:
    info, history = folder.info(), read_history(folder.file("history.csv"))
    test = json.loads(folder.file("test", "metrics.json").read_text(encoding="utf-8"))
    rate = count_images_seen(history) / sum(row.seconds for row in history)
    return {
        "run": name,
        "seed": info.seed,
        "device": info.device,
        "minutes": minutes,
        "target_minutes": GOALS[name].minutes,
        "test_accuracy": test["accuracy"],
        "target_accuracy": GOALS[name].accuracy,
        "val_accuracy": history[-1].val_accuracy,
        "macro_f1": test["macro_f1"],
        "auc": test["auc"],
        "teacher": GOALS[name].teacher,
        "epochs": len(history),
        "multiply_adds_per_image": info.multiply_adds,
        "training_images_per_s": rate,
        "matrix_gflops": flops / 1e9,
        "precision": str(dtype).removeprefix("torch.") if dtype else "float32",
        "share": 6 * info.multiply_adds * rate / flops,
    }


def _check_runs(names: list[str], seeds: list[int], runs: Path, parser: argparse.ArgumentParser) -> None:
    """Exit with status 2 where a folder of a run is in the way."""
    for run in (runs / f"{name}-{seed}" for name in names for seed in seeds):
        if run.exists() and not run.with_name(f"{run.name}.json").exists():
            parser.error(
                f"--runs: {run.name} is there, but was not timed to its end: remove it, or name another folder."
            )


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.add_argument("--only", nargs="+", default=list(GOALS), choices=GOALS, metavar="RUN", help=", ".join(GOALS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="(default: 0)")
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="FOLDER",
        help="keep the runs and their rows here; those that are there already are not trained again, and the record has all",
    )
    config = parse_config(parser, "speedrun")
    names, seeds = config.args.only, config.args.seeds
    with tempfile.TemporaryDirectory() as scratch:
        runs = config.args.runs or Path(scratch)
        _check_runs(names, seeds, runs, parser)
        for name in names:
            for seed in seeds:
                measure(name, seed, config, runs)
        rows = _kept_rows(runs)
    title = "synthetic cells" if config.quick else "TissueMNIST"
    publish(replace(config, repeats=len(rows)), f"From a cold process to saved weights, {title}", rows, title)


if __name__ == "__main__":
    main()
