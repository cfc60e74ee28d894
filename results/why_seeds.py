"""Which reading of the course report gives its figures? Its five-epoch rows, trained once for each of several readings.

The report names no activation, momentum or order of images. Run as: python results/why_seeds.py (about seven minutes a
reading on two cores; needs TissueMNIST). It goes on where it was cut off, from why-seeds.json, and writes why-seeds.md.
Nothing here reads the test split: what was published on test stands beside our validation.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nephros.data.batches import Batches
from nephros.data.dataset import Dataset
from nephros.data.load import load
from nephros.evaluation.published import published
from nephros.files import write_json, write_text
from nephros.recipe import Recipe
from nephros.recipes import RECIPES
from nephros.training.begin import fresh_model, shape_of
from nephros.training.fit import Fit
from nephros.training.progress import NoProgress

ROWS = tuple(f"course-{number}" for number in range(1, 6))
RECORDS = Path(__file__).with_name("why-seeds.json")
TABLE = Path(__file__).with_name("why-seeds.md")


class InFileOrder(Batches):
    """A split that is read from first to last, whatever order is asked for: a loader that does not shuffle."""

    def read(
        self, batch_size: int, order: Tensor | None = None, *, even: bool = False
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield batches in file order."""
        return super().read(batch_size, None, even=even)


def _linear(network: nn.Module) -> None:
    """Take every activation out."""
    for part in (network.features, network.head):
        _without_relu(part)


def _without_relu(part: object) -> None:
    assert isinstance(part, nn.Sequential)
    for place, layer in enumerate(part):
        if isinstance(layer, nn.ReLU):
            part[place] = nn.Identity()


def _zero_padding(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.padding_mode = "zeros"


def _nothing(_network: nn.Module) -> None:
    return None


@dataclass(frozen=True)
class Reading:
    """One way to read the report."""

    words: str
    change: Callable[[nn.Module], None] = _nothing
    momentum: float = 0.0
    batches: type[Batches] = Batches
    normalise: str = "half"


READINGS = (
    Reading("as the recipes have it: ReLU, no momentum, shuffled"),
    Reading("no activation at all", change=_linear),
    Reading("no activation after convolutions", change=lambda network: _without_relu(network.features)),
    Reading("no activation between the linear layers", change=lambda network: _without_relu(network.head)),
    Reading("momentum .9", momentum=0.9),
    Reading("images in file order", batches=InFileOrder),
    Reading("zero padding", change=_zero_padding),
    Reading("inputs in 0 to 1", normalise="unit"),
)


def run(reading: Reading, row: str, dataset: Dataset) -> dict[str, float]:
    """Train one row as one reading has it; return accuracies and losses after its last epoch."""
    recipe: Recipe = dataclasses.replace(
        RECIPES[row],
        normalise=reading.normalise,  # type: ignore[arg-type]
        optimizer=dataclasses.replace(RECIPES[row].optimizer, momentum=reading.momentum),
    )
    model = fresh_model(recipe, dataset.train, shape_of(dataset))
    reading.change(model.network)
    device = torch.device("cpu")
    train, val = reading.batches(dataset.train, device), Batches(dataset.val, device)
    fit = Fit(recipe, model, train, val, dataset.class_names)
    fit.run(None, NoProgress())
    last = fit.history[-1]
    return {"train_accuracy": last.train_accuracy, "val_accuracy": last.val_accuracy, "val_loss": last.val_loss}


def table(records: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return Markdown: a line a reading, accuracy (and loss) of each row beside what was published."""
    by_recipe = {row.recipe: row for row in published()}
    lines = [f"| reading | {' | '.join(ROWS)} |", "|---" * (len(ROWS) + 1) + "|"]
    said = [f"{by_recipe[row].accuracy:.3f} ({by_recipe[row].implied_loss:.2f})" for row in ROWS]
    lines.append(f"| **published, on test (loss implied)** | {' | '.join(said)} |")
    for reading in READINGS:
        found = records.get(reading.words, {})
        cells = [
            f"{found[row]['val_accuracy']:.3f} ({found[row]['val_loss']:.2f})" if row in found else "" for row in ROWS
        ]
        lines.append(f"| {reading.words} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\nValidation accuracy (loss an image) after five epochs; one seed.\n"


def main() -> None:
    """Run what is missing, and write the records and the table after each run."""
    records = json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.exists() else {}
    dataset = load("tissuemnist")
    for reading in READINGS:
        for row in ROWS:
            if row in records.setdefault(reading.words, {}):
                continue
            records[reading.words][row] = run(reading, row, dataset)
            print(f"{reading.words}, {row}: {records[reading.words][row]}", file=sys.stderr, flush=True)
            write_json(RECORDS, records)
            write_text(TABLE, table(records))
    print(table(records), end="")


if __name__ == "__main__":
    main()
