"""The loss of the first steps of the default recipe on TissueMNIST: a log to hold every later version to.

python results/first_steps.py writes results/first-steps.csv; with --check it trains again and compares. About two minutes.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import itertools
import statistics
import sys
from pathlib import Path

import torch
from torch import Tensor

from nephros.data.batches import Batches
from nephros.data.load import load
from nephros.presets import RECIPES
from nephros.text_tables import csv_of
from nephros.training.model_init import fresh_model, shape_of
from nephros.training.progress import NoProgress
from nephros.training.trainer import Fit

FILE = Path(__file__).with_name("first-steps.csv")
STEPS, BLOCK = 200, 40
NEAR = 0.04
"""What a block's mean loss may differ by: other processors round otherwise, and steps at a high rate magnify that."""


class _Enough(Exception):
    """So many steps have been taken."""


class _Losses(NoProgress):
    def __init__(self) -> None:
        self.found: list[float] = []

    def step(self, epoch: int, images: int, loss: Tensor) -> None:
        """Keep the loss, and end after STEPS."""
        self.found.append(float(loss))
        if len(self.found) == STEPS:
            raise _Enough


def measure() -> list[float]:
    """Return the mean training loss of each block of steps."""
    dataset = load("tissuemnist")
    recipe = dataclasses.replace(RECIPES["nephros"], amp="off")  # full precision is the same everywhere
    model = fresh_model(recipe, dataset.train, shape_of(dataset))
    device = torch.device("cpu")
    fit = Fit(recipe, model, Batches(dataset.train, device), Batches(dataset.val, device), dataset.class_names)
    losses = _Losses()
    with contextlib.suppress(_Enough):
        fit.run(None, losses)
    return [statistics.mean(losses.found[start : start + BLOCK]) for start in range(0, STEPS, BLOCK)]


def main(words: list[str]) -> int:
    """Write the log, or compare with it; return the exit status."""
    found = measure()
    steps = [f"{start + 1} to {start + BLOCK}" for start in range(0, STEPS, BLOCK)]
    if "--check" not in words:
        FILE.write_text(csv_of(("steps", "loss"), [[s, f"{x:.4f}"] for s, x in zip(steps, found, strict=True)]))
        return 0
    with FILE.open(encoding="utf-8") as lines:
        logged = [float(row["loss"]) for row in csv.DictReader(lines)]
    for block, ours, theirs in zip(steps, found, logged, strict=True):
        print(f"steps {block}: loss {ours:.4f}, in the log {theirs:.4f}")
    falls = all(later < earlier for earlier, later in itertools.pairwise(found))
    near = all(abs(ours - theirs) < NEAR for ours, theirs in zip(found, logged, strict=True))
    return 0 if falls and near else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
