"""The loss of the first steps of the default recipe on TissueMNIST: a record that every later version must match.

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

from nephros.data.batches import BatchLoader
from nephros.data.load import load_dataset
from nephros.presets import RECIPES
from nephros.text_tables import csv_table
from nephros.training.model_init import init_model, input_spec
from nephros.training.progress import NullCallback
from nephros.training.trainer import Trainer

FILE = Path(__file__).with_name("first-steps.csv")
STEPS, BLOCK = 200, 40
TOLERANCE = 0.04
"""What a block's mean loss may differ by: other processors round otherwise, and steps at a high rate magnify that."""


class _StopTraining(Exception):
    """So many steps have been taken."""


class _LossRecorder(NullCallback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_step_end(self, epoch: int, n_images: int, loss: Tensor) -> None:
        """Keep the loss, and end after STEPS."""
        self.losses.append(float(loss))
        if len(self.losses) == STEPS:
            raise _StopTraining


def measure() -> list[float]:
    """Return the mean training loss of each block of steps."""
    dataset = load_dataset("tissuemnist")
    recipe = dataclasses.replace(RECIPES["nephros"], amp="off")  # full precision is the same everywhere
    model = init_model(recipe, dataset.train, input_spec(dataset))
    device = torch.device("cpu")
    trainer = Trainer(
        recipe, model, BatchLoader(dataset.train, device), BatchLoader(dataset.val, device), dataset.class_names
    )
    recorder = _LossRecorder()
    with contextlib.suppress(_StopTraining):
        trainer.run(None, recorder)
    return [statistics.mean(recorder.losses[start : start + BLOCK]) for start in range(0, STEPS, BLOCK)]


def main(argv: list[str]) -> int:
    """Write the log, or compare with it; return the exit status."""
    measured = measure()
    steps = [f"{start + 1} to {start + BLOCK}" for start in range(0, STEPS, BLOCK)]
    if "--check" not in argv:
        FILE.write_text(csv_table(("steps", "loss"), [[s, f"{x:.4f}"] for s, x in zip(steps, measured, strict=True)]))
        return 0
    with FILE.open(encoding="utf-8") as file:
        logged = [float(row["loss"]) for row in csv.DictReader(file)]
    for block, measured_loss, logged_loss in zip(steps, measured, logged, strict=True):
        print(f"steps {block}: loss {measured_loss:.4f}, in the log {logged_loss:.4f}")
    decreasing = all(later < earlier for earlier, later in itertools.pairwise(measured))
    within_tolerance = all(
        abs(measured_loss - logged_loss) < TOLERANCE
        for measured_loss, logged_loss in zip(measured, logged, strict=True)
    )
    return 0 if decreasing and within_tolerance else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
