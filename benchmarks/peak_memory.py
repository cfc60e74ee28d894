"""Peak memory of a recipe's training step in one precision, as one line of JSON.

mixed_precision.py runs it in a new process for each case, because the peak of a process never goes down.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.process_memory import process_memory
from benchmarks.timing import synchronize
from benchmarks.workloads import LR, trainer_for
from nephros import device as devices
from nephros.data.split import Split
from nephros.presets import RECIPES

N_STEPS = 3


def measure(recipe_name: str, amp: Any, batch_size: int, device: torch.device) -> dict[str, float]:
    """Take a few steps on noise (memory doesn't depend on content); return the MiB before the first step and at the peak."""
    recipe = replace(RECIPES[recipe_name], amp=amp, batch_size=batch_size)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, 28, 28), dtype=np.uint8)
    split = Split(images, np.arange(batch_size) % 8)
    trainer = trainer_for(recipe, split, device)
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device) if on_gpu else process_memory("VmRSS")
    for _ in range(N_STEPS):
        _, images_nchw, labels = next(trainer.train_batches.iter_batches(batch_size))
        trainer.step.take(images_nchw, labels, LR)
    synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else process_memory("VmHWM")
    return {"before_mib": before / 2**20, "peak_mib": peak / 2**20}


def main() -> None:
    """Measure one case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("amp", choices=("off", "bf16", "fp16"))
    parser.add_argument("batch_size", type=int)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args()
    print(json.dumps(measure(args.recipe, args.amp, args.batch_size, devices.resolve_device(args.device))))


if __name__ == "__main__":
    main()
