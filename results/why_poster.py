"""Why is the poster's network better here than on the poster? Two common mistakes of training scripts, tried out.

Run as: python results/why_poster.py RUN (under an hour on one core), where RUN is the run of `nephros reproduce baselines --only
poster-resplit`: 120,000 images for training and 30,000 for validation, as on the poster. Its network is evaluated once more
in training mode (dropout on, statistics of each batch), and its recipe is trained again on images that are never shuffled.
It prints a Markdown table and writes it to why-poster.md. The test split is not read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nephros import device as devices
from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.data.load import load_request
from nephros.files import write_text
from nephros.models.serialization import load_model
from nephros.recipe import Recipe
from nephros.recipe_io import read_recipe
from nephros.runs import RunFolder
from nephros.training.history import EpochMetrics, read_history
from nephros.training.model_init import init_model, input_spec
from nephros.training.progress import NullCallback
from nephros.training.trainer import Trainer

TABLE = Path(__file__).with_name("why-poster.md")
PUBLISHED = "| the poster | 100 | 0.741 | 0.646 | 0.652 |"
"""Its curves, at their end and at their best (poster; its authors' repository)."""


class UnshuffledBatches(BatchLoader):
    """A loader that never shuffles: every epoch reads the split in file order."""

    def iter_batches(
        self, batch_size: int, order: Tensor | None = None, *, balanced: bool = False
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield batches in file order."""
        return super().iter_batches(batch_size, None, balanced=balanced)


def train_unshuffled(recipe: Recipe, dataset: Dataset) -> list[EpochMetrics]:
    """Train the recipe on images in file order; return its epochs."""
    device = devices.resolve_device("cpu")
    model = init_model(recipe, dataset.train, input_spec(dataset))
    train, val = UnshuffledBatches(dataset.train, device), BatchLoader(dataset.val, device)
    trainer = Trainer(recipe, model, train, val, dataset.class_names)
    trainer.run(None, NullCallback())
    return trainer.history


def accuracy_in_training_mode(run: RunFolder, recipe: Recipe, dataset: Dataset) -> float:
    """Return validation accuracy of a run's network with dropout on and each batch normalized by its own statistics."""
    model, _ = load_model(run.file("weights.safetensors"))
    torch.manual_seed(0)
    model.train()
    n_correct = 0
    with torch.inference_mode():
        for _, images, labels in BatchLoader(dataset.val, torch.device("cpu")).iter_batches(recipe.batch_size):
            n_correct += int((model(images).argmax(1) == labels).sum())
    return n_correct / len(dataset.val)


def _table_row(label: str, history: Sequence[EpochMetrics]) -> str:
    last, best = history[-1], max(row.val_accuracy for row in history)
    return f"| {label} | {len(history)} | {last.train_accuracy:.4f} | {last.val_accuracy:.4f} | {best:.4f} |"


def main() -> None:
    """Print the table and write it."""
    run = RunFolder.open(Path(sys.argv[1]))
    recipe, dataset = read_recipe(run.file("recipe.yaml")), load_request(run.info().data_request)
    lines = [
        "| what | epochs | train accuracy | val accuracy, last epoch | best epoch |",
        "|---|---|---|---|---|",
        PUBLISHED,
    ]
    history = read_history(run.file("history.csv"))
    lines.append(_table_row("here, by the same protocol", history))
    train_mode_accuracy = accuracy_in_training_mode(run, recipe, dataset)
    lines.append(f"| that network, evaluated in training mode | {len(history)} | | {train_mode_accuracy:.4f} | |")
    lines.append(_table_row("images never shuffled", train_unshuffled(recipe, dataset)))
    text = "\n".join(lines) + "\n\nTrain accuracy is the running one, with dropout. One seed.\n"
    write_text(TABLE, text)
    print(text, end="")


if __name__ == "__main__":
    main()
