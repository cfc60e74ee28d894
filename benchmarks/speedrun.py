"""Minutes from a cold process to saved weights, and their test scores: all of `nephros train`, loading data included.

Each recipe is trained in a new process. The clock stops when its weights are saved, before the evaluation on test. Matrix
products in the precision of the training, timed before and after, give the share of the machine's rate that training reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish
from benchmarks.timing import best_rate
from benchmarks.workloads import matrix_products
from nephros.device import autocast_dtype
from nephros.presets import NETWORK_RECIPES, RECIPES
from nephros.runs import RunFolder
from nephros.training.history import count_images_seen, read_history

TARGETS = {"nephros-fast": (0.703, 10.0), "nephros": (0.734, 60.0)}
"""Recipe -> target test accuracy (AutoKeras; the best published at 28 pixels), and minutes to reach it on two CPU cores."""

STANDALONE_RECIPES = [name for name, recipe in NETWORK_RECIPES.items() if not recipe.distillation_weight]
"""Recipes that need no teachers."""


def matmul_flops(config: BenchmarkConfig, dtype: torch.dtype | None) -> float:
    """Return the operations per second of the fastest of several matrix products."""
    return best_rate(matrix_products(config.device, dtype), config.device)(config.seconds)


def measure(name: str, seed: int, config: BenchmarkConfig) -> Row:
    """Train a recipe in a new process; return its time, speed and scores."""
    recipe = RECIPES[name]
    dtype = autocast_dtype(recipe.amp, config.device)
    rates = [matmul_flops(config, dtype)]
    with tempfile.TemporaryDirectory() as scratch:
        run = (config.args.runs or Path(scratch)) / f"{name}-{seed}"
        args = [sys.executable, "-m", "nephros", "train", name, "--seed", str(seed), "--test", "--out", str(run)]
        args += ["--device", config.device.type]
        args += ["--data", "synthetic", "--epochs", "1"] if config.quick else []
        start_time = time.time()
        if exit_status := subprocess.run(args, stdout=subprocess.DEVNULL).returncode:
            sys.exit(exit_status)  # it has printed the reason
        run_folder = RunFolder.open(run)
        minutes = (run_folder.file("weights.safetensors").stat().st_mtime - start_time) / 60
        info = run_folder.info()
        test = json.loads(run_folder.file("test", "metrics.json").read_text(encoding="utf-8"))
        history = read_history(run_folder.file("history.csv"))
    rates.append(matmul_flops(config, dtype))
    rate = count_images_seen(history) / sum(row.seconds for row in history)
    accuracy, target_minutes = TARGETS.get(name, (None, None))
    return {
        "recipe": name,
        "seed": seed,
        "device": info.device,
        "minutes": minutes,
        "target_minutes": target_minutes,
        "test_accuracy": test["accuracy"],
        "target_accuracy": accuracy,
        "macro_f1": test["macro_f1"],
        "auc": test["auc"],
        "epochs": len(history),
        "multiply_adds_per_image": info.multiply_adds,
        "training_images_per_s": rate,
        "matrix_gflops": max(rates) / 1e9,
        "precision": str(dtype).removeprefix("torch.") if dtype else "float32",
        "share": 6 * info.multiply_adds * rate / max(rates),
    }


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.add_argument("--recipes", nargs="+", default=list(TARGETS), choices=STANDALONE_RECIPES, metavar="RECIPE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="(default: 0)")
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="FOLDER",
        help="keep the runs, where `nephros reproduce nephros` looks for them: RUNS/nephros",
    )
    config = parse_config(parser, "speedrun")
    for name in config.args.recipes:
        for seed in config.args.seeds:
            if config.args.runs and (config.args.runs / f"{name}-{seed}").exists():
                parser.error(
                    f"--runs: {name}-{seed} exists already; name another folder, or other --recipes or --seeds."
                )
    rows = [measure(name, seed, config) for name in config.args.recipes for seed in config.args.seeds]
    title = "synthetic cells" if config.quick else "TissueMNIST"
    publish(replace(config, repeats=len(rows)), f"From a cold process to saved weights, {title}", rows, title)


if __name__ == "__main__":
    main()
