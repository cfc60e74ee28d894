"""The training loop of nephros against the usual one: a Dataset that makes an image and a tensor per item, and a DataLoader."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils import data

from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish
from benchmarks.timing import Contender, interleave, mean_rate, ratio, summary
from benchmarks.workloads import LR, endless_batches, load_train_split, trainer_for, training_steps
from nephros.data.split import Split
from nephros.models.classifier import Classifier
from nephros.presets import RECIPES
from nephros.training.trainer import Trainer

RECIPE = RECIPES["course-1"]


class PILImageDataset(data.Dataset[tuple[Tensor, int]]):
    """MedMNIST's Dataset with ToTensor and Normalize(.5, .5), without their checks."""

    def __init__(self, split: Split) -> None:
        self._split = split

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self._split.images[index])
        image_hw = torch.from_numpy(np.array(image)).float().div(255)
        return image_hw.unsqueeze(0).sub(0.5).div(0.5), int(self._split.labels[index])


def dataloader_batches(split: Split, workers: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled batches of normalized images endlessly; worker processes persist between epochs."""
    loader = data.DataLoader(
        PILImageDataset(split),
        batch_size=RECIPE.batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    while True:
        for images, labels in loader:
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def dataloader_steps(split: Split, workers: int, device: torch.device) -> Iterator[float]:
    """Train the recipe's network, in torch's default layout, on the DataLoader's batches; yield the images of each."""
    network = _classifier(trainer_for(replace(RECIPE, channels_last=False), split, device)).network
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    for images, labels in dataloader_batches(split, workers, device):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield len(labels)


def normalized_batches(trainer: Trainer) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield nephros's batches, normalized to floats like the DataLoader's (in training, our network does that)."""
    for images, labels in endless_batches(trainer):
        yield _classifier(trainer).normalize(images), labels


def batch_sizes(batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[float]:
    """Yield the number of images of each batch."""
    for _, labels in batches:
        yield len(labels)


def _classifier(trainer: Trainer) -> Classifier:
    assert isinstance(trainer.model, Classifier)
    return trainer.model


def check_same_images(trainer: Trainer, split: Split) -> None:
    """Check that the first images are equal in both loops."""
    expected = torch.stack([PILImageDataset(split)[index][0] for index in range(RECIPE.batch_size)])
    _, images, _ = next(trainer.train_batches.iter_batches(RECIPE.batch_size))
    torch.testing.assert_close(_classifier(trainer).normalize(images).cpu(), expected)


def measure(
    what: str, ours: Contender, dataloader_contenders: dict[int, Contender], config: BenchmarkConfig, target: str
) -> Row:
    """Return the rate of nephros and that of the DataLoader with its best number of workers."""
    contenders = {"ours": ours} | {str(workers): contender for workers, contender in dataloader_contenders.items()}
    rates = interleave(contenders, config)
    best = max(dataloader_contenders, key=lambda workers: statistics.median(rates[str(workers)]))
    return {
        "what": what,
        "nephros_images_per_s": summary(rates["ours"]),
        **{
            f"dataloader_{workers}_workers_images_per_s": summary(rates[str(workers)])
            for workers in dataloader_contenders
        },
        "best_workers": best,
        "ratio": ratio(rates["ours"], rates[str(best)]),
        "expected_ratio": target,
    }


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0, 1, 2], help="worker processes of the DataLoader (default: 0 1 2)"
    )
    config = parse_config(parser, "usual_loop")
    workers: list[int] = config.args.workers
    split, title = load_train_split(config)
    device = config.device
    trainer = trainer_for(RECIPE, split, device)
    check_same_images(trainer, split)
    dataloader_contenders = {
        count: mean_rate(batch_sizes(dataloader_batches(split, count, device)), device) for count in workers
    }
    ours = mean_rate(batch_sizes(endless_batches(trainer)), device)
    rows = [
        measure(
            "batches only: nephros as uint8, which its network takes",
            ours,
            dataloader_contenders,
            config,
            "at least 50",
        )
    ]
    ours = mean_rate(batch_sizes(normalized_batches(trainer)), device)
    rows.append(measure("batches only: both as normalized floats", ours, dataloader_contenders, config, "at least 50"))
    ours = mean_rate(training_steps(trainer, endless_batches(trainer)), device)
    dataloader_contenders = {count: mean_rate(dataloader_steps(split, count, device), device) for count in workers}
    rows.append(measure(f"training {RECIPE.name}", ours, dataloader_contenders, config, "more than 1"))
    publish(config, f"nephros against Dataset and DataLoader, {title}", rows, title)


if __name__ == "__main__":
    main()
