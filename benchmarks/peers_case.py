"""Training speed of one stack on the network and batch size of a recipe, for some seconds, as one line of JSON.

peers.py runs it in a new process for each stack, in the environment that has it. All stacks get the same images, shift them
at random as the recipe does and take steps of the same optimizer with a learning rate of 0. They differ in how batches are
made, in precision and memory layout, and in who runs the loop.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils import data

from benchmarks.timing import mean_rate
from benchmarks.workloads import LR, endless_batches, gray_input_spec, load_split, trainer_for, training_steps
from nephros.data.split import Split
from nephros.models import build_network
from nephros.presets import RECIPES
from nephros.recipe import Recipe
from nephros.training.ema import WeightEMA
from nephros.training.optimizers import build_optimizer

STACKS = ("nephros", "plain", "timm-style", "lightning")
MEAN, STD = 0.102, 0.1


class AugmentedPILDataset(data.Dataset[Any]):
    """Images from a PIL transform: padded, cropped at random, then converted to a normalized tensor or left as bytes."""

    def __init__(self, split: Split, shift: int, floats: bool) -> None:
        self._split, self._shift, self._floats = split, shift, floats

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image, max_shift = Image.fromarray(self._split.images[index]), self._shift
        left, top = (int(torch.randint(-max_shift, max_shift + 1, ())) for _ in range(2))
        side = image.width
        pixels = np.asarray(image.crop((left, top, left + side, top + side)))[None]
        label = int(self._split.labels[index])
        if not self._floats:
            return pixels, label
        return torch.from_numpy(pixels.copy()).float().div(255).sub(MEAN).div(STD), label


def _fast_collate(samples: list[tuple[Any, int]]) -> tuple[Tensor, Tensor]:
    """Stack bytes, as timm's fast_collate does."""
    images, labels = zip(*samples, strict=True)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def loader(split: Split, recipe: Recipe, workers: int, floats: bool) -> data.DataLoader[Any]:
    """Return an ordinary DataLoader."""
    return data.DataLoader(
        AugmentedPILDataset(split, recipe.augment.shift, floats),
        batch_size=recipe.batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
        collate_fn=None if floats else _fast_collate,
    )


def frozen_optimizer(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    """Return the recipe's optimizer with the learning rate of all benchmarks."""
    opt = build_optimizer(recipe.optimizer, network)
    for group in opt.param_groups:
        group["lr"] = LR
    return opt


def plain_steps(split: Split, recipe: Recipe, workers: int) -> Iterator[float]:
    """Train as tutorials do: floats from the loader, full precision, torch's default layout."""
    network = build_network(recipe.model, gray_input_spec(split)).train()
    opt = frozen_optimizer(recipe, network)
    for images, labels in itertools.chain.from_iterable(itertools.repeat(loader(split, recipe, workers, True))):
        opt.zero_grad()
        F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        opt.step()
        yield len(labels)


def timm_steps(split: Split, recipe: Recipe, workers: int) -> Iterator[float]:
    """Train as timm's script does: bytes from the loader, channels_last, autocast to bf16, a moving average of weights."""
    network = build_network(recipe.model, gray_input_spec(split)).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = WeightEMA(network, 0.999)
    opt = frozen_optimizer(recipe, network)
    for pixels, labels in itertools.chain.from_iterable(itertools.repeat(loader(split, recipe, workers, False))):
        images = pixels.to(memory_format=torch.channels_last).float().sub_(255 * MEAN).div_(255 * STD)
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(network(images), labels)
        opt.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        opt.step()
        ema.update(network)
        yield len(labels)


def nephros_steps(split: Split, recipe: Recipe, _workers: int) -> Iterator[float]:
    """Train with nephros's own loop, as the recipe says."""
    trainer = trainer_for(recipe, split, torch.device("cpu"))
    return training_steps(trainer, endless_batches(trainer))


def lightning_throughput(split: Split, recipe: Recipe, workers: int, seconds: float) -> float:
    """Return the images per second of Lightning's Trainer with the plain loader."""
    import lightning

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network: nn.Module = build_network(recipe.model, gray_input_spec(split))
            self.times: list[float] = []

        def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
            self.times.append(time.perf_counter())
            return F.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return frozen_optimizer(recipe, self.network)

    module = Module()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_time={"seconds": 2 * seconds},
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader(split, recipe, workers, True))
    step_times = [t for t in module.times if t > module.times[0] + seconds / 2]
    return recipe.batch_size * (len(step_times) - 1) / (step_times[-1] - step_times[0])


def main() -> None:
    """Run one stack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stack", choices=STACKS)
    parser.add_argument("--recipe", default="nephros")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=0, help="worker processes of the DataLoader")
    parser.add_argument("--quick", action="store_true", help="a few cells if the real ones are not available")
    parser.add_argument("--synthetic", action="store_true", help="use synthetic cells")
    args = parser.parse_args()
    split, _ = load_split(args.quick, real=not args.synthetic)
    recipe = RECIPES[args.recipe]
    if args.quick:
        recipe = replace(recipe, batch_size=16)
    if args.stack == "lightning":
        throughput = lightning_throughput(split, recipe, args.workers, args.seconds)
    else:
        step_functions = {"nephros": nephros_steps, "plain": plain_steps, "timm-style": timm_steps}[args.stack]
        turn = mean_rate(step_functions(split, recipe, args.workers), torch.device("cpu"))
        turn(args.seconds / 2)
        throughput = turn(args.seconds)
    print(json.dumps({"images_per_s": throughput, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
