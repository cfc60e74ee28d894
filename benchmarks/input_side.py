"""Speed of a training step fed with shuffled, augmented batches, relative to the same step on one fixed batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish
from benchmarks.timing import interleave, mean_rate, ratio, summary
from benchmarks.workloads import endless_batches, load_train_split, trainer_for, training_steps
from nephros.data.split import Split
from nephros.presets import RECIPES
from nephros.recipe import AugmentConfig, Recipe
from nephros.training.trainer import Trainer

TARGET = 0.90
CASES = [replace(RECIPES["course-1"], augment=AugmentConfig(flips="dihedral", shift=2)), RECIPES["nephros"]]


def measure(recipe: Recipe, split: Split, config: BenchmarkConfig) -> Row:
    """Return the rates of the fed step, of the fixed step, and of making batches alone."""
    trainer = trainer_for(recipe, split, config.device)
    batch = next(iter(trainer.train_batches.iter_batches(recipe.batch_size)))[1:]
    contenders = {
        "fed": mean_rate(training_steps(trainer, endless_batches(trainer)), trainer.device),
        "fixed": mean_rate(training_steps(trainer, itertools.repeat(batch)), trainer.device),
        "input": mean_rate(_epoch_loop(trainer), trainer.device),
    }
    rates = interleave(contenders, config)
    return {
        "recipe": recipe.name,
        "augmentation": f"{recipe.augment.flips}, shift {recipe.augment.shift}",
        "fed_images_per_s": summary(rates["fed"]),
        "fixed_images_per_s": summary(rates["fixed"]),
        "share": ratio(rates["fed"], rates["fixed"]),
        "target_share": TARGET,
        "input_us_per_image": summary([1e6 / rate for rate in rates["input"]]),
    }


def _epoch_loop(trainer: Trainer) -> Iterator[float]:
    """Make whole epochs of batches, including the shuffle and random draws at their start; yield the images of each epoch."""
    n, n_read = len(trainer.train_batches), 0
    for _, labels in endless_batches(trainer):
        n_read += len(labels)
        if n_read == n:
            yield n
            n_read = 0


def main() -> None:
    """Run the benchmark."""
    config = parse_config(build_parser(__doc__ or ""), "input_side")
    split, data = load_train_split(config)
    rows = [measure(recipe, split, config) for recipe in CASES]
    publish(config, f"Fed training step against the same step on one fixed batch, {data}", rows, data)


if __name__ == "__main__":
    main()
