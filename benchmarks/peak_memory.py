"""Peak memory of a recipe's training step in one precision, as one JSON line.

mixed_precision.py runs it in a process of its own for each case, since a process's peak never goes down again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import synchronise
from benchmarks.workloads import LR, fit_of
from nephros import device as devices
from nephros.data.dataset import Split
from nephros.presets import RECIPES

STEPS = 3


def resident(which: str) -> int:
    """Return the bytes of memory that this process holds (VmRSS) or has held at most (VmHWM).

    Not getrusage's ru_maxrss: a new process inherits that from the one that started it.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{which}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {which}.")


def measure(recipe_name: str, amp: Any, batch_size: int, device: torch.device) -> dict[str, float]:
    """Take a few steps on noise, whose memory is that of any images; return MiB before the first and at the peak."""
    recipe = replace(RECIPES[recipe_name], amp=amp, batch_size=batch_size)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (batch_size, 28, 28), dtype=np.uint8)
    split = Split(images, np.arange(batch_size) % 8)
    fit = fit_of(recipe, split, device)
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device) if gpu else resident("VmRSS")
    for _ in range(STEPS):
        _, images_nchw, labels = next(fit.train_batches.read(batch_size))
        fit.step(images_nchw, labels, LR)
    synchronise(device)
    peak = torch.cuda.max_memory_allocated(device) if gpu else resident("VmHWM")
    return {"before_mib": before / 2**20, "peak_mib": peak / 2**20}


def main() -> None:
    """Measure one case."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("recipe", choices=RECIPES)
    made.add_argument("amp", choices=("off", "bf16", "fp16"))
    made.add_argument("batch_size", type=int)
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = made.parse_args()
    print(json.dumps(measure(given.recipe, given.amp, given.batch_size, devices.choose(given.device))))


if __name__ == "__main__":
    main()
