"""One stack's training loop on the network and batch size of a recipe, for some seconds: prints its images a second.

peers.py runs it in a process of its own for each stack, in the environment that has it. Every stack sees the same images,
shifts them at random as the recipe does and takes the same optimiser's steps, at a rate of 0; what differs is how batches
are made, in what precision and layout they are multiplied, and who turns the loop.
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
from benchmarks.workloads import LR, batches_of, fit_of, open_split, shape_of, steps
from nephros.data.dataset import Split
from nephros.models import build
from nephros.presets import RECIPES
from nephros.recipe import Recipe
from nephros.training.parts import Average, optimizer

STACKS = ("nephros", "plain", "timm-style", "lightning")
MEAN, STD = 0.102, 0.1


class Pictures(data.Dataset[Any]):
    """Pictures as a transform of PIL's makes them: padded, cut out at random, then a normalised tensor or bytes."""

    def __init__(self, split: Split, shift: int, floats: bool) -> None:
        self._split, self._shift, self._floats = split, shift, floats

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        picture, most = Image.fromarray(self._split.images[index]), self._shift
        left, top = (int(torch.randint(-most, most + 1, ())) for _ in range(2))
        side = picture.width
        pixels = np.asarray(picture.crop((left, top, left + side, top + side)))[None]
        label = int(self._split.labels[index])
        if not self._floats:
            return pixels, label
        return torch.from_numpy(pixels.copy()).float().div(255).sub(MEAN).div(STD), label


def _collated(rows: list[tuple[Any, int]]) -> tuple[Tensor, Tensor]:
    """Stack bytes, as timm's fast_collate does."""
    images, labels = zip(*rows, strict=True)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def loader(split: Split, recipe: Recipe, workers: int, floats: bool) -> data.DataLoader[Any]:
    """Return the usual DataLoader."""
    return data.DataLoader(
        Pictures(split, recipe.augment.shift, floats),
        batch_size=recipe.batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
        collate_fn=None if floats else _collated,
    )


def still(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    """Return the recipe's optimiser at the rate of all benchmarks."""
    made = optimizer(recipe.optimizer, network)
    for group in made.param_groups:
        group["lr"] = LR
    return made


def plain_steps(split: Split, recipe: Recipe, workers: int) -> Iterator[float]:
    """The loop of every tutorial: floats from the loader, full precision, torch's own layout."""
    network = build(recipe.model, shape_of(split)).train()
    optimiser = still(recipe, network)
    for images, labels in itertools.chain.from_iterable(itertools.repeat(loader(split, recipe, workers, True))):
        optimiser.zero_grad()
        F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        yield len(labels)


def timm_steps(split: Split, recipe: Recipe, workers: int) -> Iterator[float]:
    """What timm's train script does: bytes from the loader, channels_last, autocast to bf16, a moving average of weights."""
    network = build(recipe.model, shape_of(split)).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = Average(network, 0.999)
    optimiser = still(recipe, network)
    for pixels, labels in itertools.chain.from_iterable(itertools.repeat(loader(split, recipe, workers, False))):
        images = pixels.to(memory_format=torch.channels_last).float().sub_(255 * MEAN).div_(255 * STD)
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(network(images), labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        average.update(network)
        yield len(labels)


def our_steps(split: Split, recipe: Recipe, _workers: int) -> Iterator[float]:
    """Our own loop, as the recipe has it."""
    fit = fit_of(recipe, split, torch.device("cpu"))
    return steps(fit, batches_of(fit))


def lightning_rate(split: Split, recipe: Recipe, workers: int, seconds: float) -> float:
    """Return the images a second of Lightning's Trainer over the plain loader."""
    import lightning

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network: nn.Module = build(recipe.model, shape_of(split))
            self.times: list[float] = []

        def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
            self.times.append(time.perf_counter())
            return F.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return still(recipe, self.network)

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
    after = [moment for moment in module.times if moment > module.times[0] + seconds / 2]
    return recipe.batch_size * (len(after) - 1) / (after[-1] - after[0])


def main() -> None:
    """Run one stack."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("stack", choices=STACKS)
    given.add_argument("--recipe", default="nephros")
    given.add_argument("--seconds", type=float, default=10.0)
    given.add_argument("--workers", type=int, default=0, help="of the DataLoader")
    given.add_argument("--quick", action="store_true", help="on a few cells where the real ones are not at hand")
    given.add_argument("--synthetic", action="store_true", help="on made-up cells")
    asked = given.parse_args()
    split, _ = open_split(asked.quick, real=not asked.synthetic)
    recipe = RECIPES[asked.recipe]
    if asked.quick:
        recipe = replace(recipe, batch_size=16)
    if asked.stack == "lightning":
        found = lightning_rate(split, recipe, asked.workers, asked.seconds)
    else:
        made = {"nephros": our_steps, "plain": plain_steps, "timm-style": timm_steps}[asked.stack]
        turn = mean_rate(made(split, recipe, asked.workers), torch.device("cpu"))
        turn(asked.seconds / 2)
        found = turn(asked.seconds)
    print(json.dumps({"images_per_s": found, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
