"""Minutes from a cold process to the weights of a recipe, and what they score: the whole of `nephros train`, data and all.

Each recipe is trained in a process of its own. The clock runs from its start until its weights are saved; judging them on
test comes after. Before and after, matrices are multiplied here, in the precision of the training, for the share of the
machine's rate that training reached.
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

from benchmarks.common import Row, Settings, parse, parser, publish
from benchmarks.timing import best_rate
from benchmarks.workloads import products
from nephros.device import precision
from nephros.presets import NETWORKS, RECIPES
from nephros.runs import RunFolder
from nephros.training.history import from_csv, images_seen

TARGETS = {"nephros-fast": (0.703, 10.0), "nephros": (0.734, 60.0)}
"""Recipe -> test accuracy (AutoKeras's; the best published at 28 pixels) and minutes on two CPU cores to reach it in."""

COLD = [name for name, recipe in NETWORKS.items() if not recipe.teacher_share]
"""What needs no other runs before it."""


def matrix_rate(settings: Settings, dtype: torch.dtype | None) -> float:
    """Return the operations a second of the fastest of some matrix products."""
    return best_rate(products(settings.device, dtype), settings.device)(settings.seconds)


def measure(name: str, seed: int, settings: Settings) -> Row:
    """Train a recipe in a new process; return what it took and what came of it."""
    recipe = RECIPES[name]
    dtype = precision(recipe.amp, settings.device)
    rates = [matrix_rate(settings, dtype)]
    with tempfile.TemporaryDirectory() as scratch:
        run = (settings.options.runs or Path(scratch)) / f"{name}-{seed}"
        words = [sys.executable, "-m", "nephros", "train", name, "--seed", str(seed), "--test", "--out", str(run)]
        words += ["--device", settings.device.type]
        words += ["--data", "synthetic", "--epochs", "1"] if settings.quick else []
        began = time.time()
        if failed := subprocess.run(words, stdout=subprocess.DEVNULL).returncode:
            sys.exit(failed)  # it has said why
        opened = RunFolder.open(run)
        minutes = (opened.file("weights.safetensors").stat().st_mtime - began) / 60
        info = opened.info()
        test = json.loads(opened.file("test", "metrics.json").read_text(encoding="utf-8"))
        history = from_csv(opened.file("history.csv"))
    rates.append(matrix_rate(settings, dtype))
    rate = images_seen(history) / sum(row.seconds for row in history)
    accuracy, within = TARGETS.get(name, (None, None))
    return {
        "recipe": name,
        "seed": seed,
        "device": info.device,
        "minutes": minutes,
        "target_minutes": within,
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
    made = parser(__doc__ or "")
    made.add_argument("--recipes", nargs="+", default=list(TARGETS), choices=COLD, metavar="RECIPE")
    made.add_argument("--seeds", nargs="+", type=int, default=[0], help="(default: 0)")
    made.add_argument(
        "--runs", type=Path, metavar="FOLDER", help="keep the runs, where `nephros reproduce ours` looks: RUNS/ours"
    )
    settings = parse(made, "speedrun")
    for name in settings.options.recipes:
        for seed in settings.options.seeds:
            if settings.options.runs and (settings.options.runs / f"{name}-{seed}").exists():
                made.error(
                    f"--runs: {name}-{seed} is there already; name another folder, or other --recipes or --seeds."
                )
    rows = [measure(name, seed, settings) for name in settings.options.recipes for seed in settings.options.seeds]
    title = "synthetic cells" if settings.quick else "TissueMNIST"
    publish(replace(settings, repeats=len(rows)), f"From a cold process to saved weights, {title}", rows, title)


if __name__ == "__main__":
    main()
