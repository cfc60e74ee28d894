"""Seconds from 300 labeled nuclei to a finished run on two cores: fine-tuning, training from scratch, scikit-learn on pixels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Row, build_parser, parse_config, publish
from nephros.data.subset import subset_train
from nephros.data.synthetic import make_synthetic
from nephros.evaluation.scoring import Evaluation
from nephros.runs import RunFolder

N_TRAIN, N_VAL, N_TEST = 300, 60, 1000
THREADS = 2
PIXELS = """
import json, sys
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
with np.load(sys.argv[1]) as arrays:
    x, y, new_x, new_y = (arrays[name] for name in ("train_images", "train_labels", "test_images", "test_labels"))
pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
search = GridSearchCV(pipeline, {"logisticregression__C": [0.001, 0.01, 0.1, 1]}, cv=StratifiedKFold(3))
search.fit(x.reshape(len(x), -1) / 255, y.ravel())
print(json.dumps(search.score(new_x.reshape(len(new_x), -1) / 255, new_y.ravel())))
"""
"""Logistic regression on raw pixels, its regularization chosen by cross-validation: prints the accuracy on test."""


def write_nuclei(path: Path, n_train: int) -> str:
    """Write few labels and many test images to an npz file; return what they are.

    The nuclei are synthetic, whatever data there is: TissueMNIST's classes are those that the bundled model was trained on.
    """
    dataset = subset_train(make_synthetic(2000, 500, N_TEST, seed=7), n_train, 0)
    splits = {"train": dataset.train, "val": dataset.val[:N_VAL], "test": dataset.test}
    arrays: dict[str, Any] = {"class_names": np.array(dataset.class_names)}
    for name, split in splits.items():
        arrays |= {f"{name}_images": split.images, f"{name}_labels": split.labels[:, None]}
    np.savez(path, **arrays)
    return f"{n_train} training images of {dataset.provenance.title}, {N_TEST:,} test images"


def time_process(args: list[str], folder: Path) -> tuple[float, str]:
    """Return the wall time of a cold process with two threads, and what it prints on its last line."""
    environment = os.environ | {name: str(THREADS) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    start = time.perf_counter()
    completed = subprocess.run(args, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise RuntimeError(f"{' '.join(args)} failed:\n{completed.stderr}")
    return time.perf_counter() - start, completed.stdout.strip().splitlines()[-1]


def main() -> None:
    """Run the benchmark."""
    config = parse_config(build_parser(__doc__ or ""), "finetune")
    nephros = [sys.executable, "-m", "nephros"]
    short = ["--epochs", "1", "--passes_per_epoch", "1"] if config.quick else []
    commands = {
        "nephros finetune --methods head": ["finetune", "cells.npz", "--methods", "head", "--out", "head", "--test"],
        "nephros train nephros-fast": [
            "train",
            "nephros-fast",
            "--data",
            "cells.npz",
            "--out",
            "scratch",
            "--test",
            *short,
        ],
    }
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary_dir:
        folder = Path(temporary_dir)
        data = write_nuclei(folder / "cells.npz", 80 if config.quick else N_TRAIN)
        for what, args in commands.items():
            seconds, _ = time_process([*nephros, *args, "--device", config.device.type], folder)
            run = RunFolder.open(folder / args[args.index("--out") + 1])
            metrics = Evaluation.from_run(run, "test").metrics
            rows.append(_row(what, seconds, metrics.accuracy, metrics.macro_f1))
        seconds, text = time_process([sys.executable, "-c", PIXELS, "cells.npz"], folder)
        rows.append(_row("scikit-learn: logistic regression on pixels", seconds, json.loads(text), None))
    for row in rows:
        row["seconds_per_second_of_finetune"] = row["seconds"] / rows[0]["seconds"]
    publish(config, f"From labels to a finished model, a cold process with {THREADS} threads each", rows, data)


def _row(what: str, seconds: float, accuracy: float, macro_f1: float | None) -> Row:
    row: Row = {"what": what, "seconds": seconds, "test_accuracy": accuracy}
    return row if macro_f1 is None else row | {"test_macro_f1": macro_f1}


if __name__ == "__main__":
    main()
