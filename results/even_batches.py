"""The effect of a last batch of four images on batch normalization: print two epochs of `poster` with and without one.

The two train splits differ by 60 images of some 40,000. Divided by 128 the first leaves 4 images for the last batch of
each epoch, the second 64. Run as: python results/even_batches.py (about three minutes on two cores; needs TissueMNIST).
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from nephros.data.batches import batch_boundaries
from nephros.presets import RECIPES
from nephros.training.history import read_history
from nephros.workflows.train import train

CASES = ((39_940, "short"), (40_000, "short"), (39_940, "balanced"))


def main() -> None:
    """Train each case and print a Markdown table of validation accuracy by epoch."""
    print("| training images | last batch | images in it | val accuracy, epoch 1 | epoch 2 |\n|---|---|---|---|---|")
    for images, last_batch in CASES:
        recipe = dataclasses.replace(RECIPES["poster"], epochs=2, last_batch=last_batch)  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory() as folder:
            run = train(recipe, "tissuemnist", subset=images, out=Path(folder) / "run")
            first, second = (f"{row.val_accuracy:.4f}" for row in read_history(run.file("history.csv")))
        edges = batch_boundaries(images, recipe.batch_size, balanced=last_batch == "balanced")
        print(f"| {images:,} | {last_batch} | {edges[-1] - edges[-2]} | {first} | {second} |", flush=True)


if __name__ == "__main__":
    main()
