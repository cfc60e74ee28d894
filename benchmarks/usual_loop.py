"""Our training loop against the usual one: a Dataset that makes a picture and from it a tensor an item, and a DataLoader."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils import data

from benchmarks.common import Row, Settings, parse, parser, publish
from benchmarks.timing import Contender, interleave, mean_rate, ratio, summary
from benchmarks.workloads import LR, batches_of, fit_of, open_data, steps
from nephros.data.dataset import Split
from nephros.models.classifier import Classifier
from nephros.presets import RECIPES
from nephros.training.trainer import Fit

RECIPE = RECIPES["course-1"]


class Pictures(data.Dataset[tuple[Tensor, int]]):
    """What MedMNIST's Dataset does with ToTensor and Normalize(.5, .5), without their checks."""

    def __init__(self, split: Split) -> None:
        self._split = split

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self._split.images[index])
        image_hw = torch.from_numpy(np.array(picture)).float().div(255)
        return image_hw.unsqueeze(0).sub(0.5).div(0.5), int(self._split.labels[index])


def usual_batches(split: Split, workers: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled batches of normalised images for ever; worker processes live on from epoch to epoch."""
    loader = data.DataLoader(
        Pictures(split),
        batch_size=RECIPE.batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    while True:
        for images, labels in loader:
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def usual_steps(split: Split, workers: int, device: torch.device) -> Iterator[float]:
    """Train the recipe's network, laid out as torch does by itself, on ready-made batches; yield the images of each."""
    network = _classifier(fit_of(replace(RECIPE, channels_last=False), split, device)).network
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    for images, labels in usual_batches(split, workers, device):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield len(labels)


def our_batches(fit: Fit) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield our batches, normalised to floats as the usual loop's are (in training our network does that)."""
    for images, labels in batches_of(fit):
        yield _classifier(fit).normalise(images), labels


def counted(batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[float]:
    """Yield the number of images of each batch."""
    for _, labels in batches:
        yield len(labels)


def _classifier(fit: Fit) -> Classifier:
    assert isinstance(fit.model, Classifier)
    return fit.model


def check(fit: Fit, split: Split) -> None:
    """Make sure that both loops see the same: the first images, made either way, are equal."""
    theirs = torch.stack([Pictures(split)[index][0] for index in range(RECIPE.batch_size)])
    _, images, _ = next(fit.train_batches.read(RECIPE.batch_size))
    torch.testing.assert_close(_classifier(fit).normalise(images).cpu(), theirs)


def measure(what: str, ours: Contender, usual: dict[int, Contender], settings: Settings, target: str) -> Row:
    """Return our rate beside that of the usual loop with its best number of workers."""
    contenders = {"ours": ours} | {str(workers): contender for workers, contender in usual.items()}
    rates = interleave(contenders, settings)
    best = max(usual, key=lambda workers: statistics.median(rates[str(workers)]))
    return {
        "what": what,
        "ours_images_per_s": summary(rates["ours"]),
        **{f"usual_{workers}_workers_images_per_s": summary(rates[str(workers)]) for workers in usual},
        "best_workers": best,
        "ratio": ratio(rates["ours"], rates[str(best)]),
        "expected_ratio": target,
    }


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__ or "")
    made.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="of the DataLoader (default: 0 1 2)")
    settings = parse(made, "usual_loop")
    workers: list[int] = settings.options.workers
    split, title = open_data(settings)
    device = settings.device
    fit = fit_of(RECIPE, split, device)
    check(fit, split)
    usual = {count: mean_rate(counted(usual_batches(split, count, device)), device) for count in workers}
    ours = mean_rate(counted(batches_of(fit)), device)
    rows = [measure("batches alone: ours uint8, as its network takes them", ours, usual, settings, "at least 50")]
    ours = mean_rate(counted(our_batches(fit)), device)
    rows.append(measure("batches alone: both normalised floats", ours, usual, settings, "at least 50"))
    ours = mean_rate(steps(fit, batches_of(fit)), device)
    usual = {count: mean_rate(usual_steps(split, count, device), device) for count in workers}
    rows.append(measure(f"training {RECIPE.name}", ours, usual, settings, "more than 1"))
    publish(settings, f"Our loop against Dataset and DataLoader, {title}", rows, title)


if __name__ == "__main__":
    main()
