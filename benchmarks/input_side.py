"""How much of a training step's speed is left when it is fed by shuffled, augmented batches, not by one fixed batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.common import Row, Settings, parse, parser, publish
from benchmarks.timing import interleave, mean_rate, ratio, summary
from benchmarks.workloads import batches_of, fit_of, open_data, steps
from nephros.data.dataset import Split
from nephros.presets import RECIPES
from nephros.recipe import Recipe
from nephros.recipe_parts import Augment
from nephros.training.trainer import Fit

TARGET = 0.90
CASES = [replace(RECIPES["course-1"], augment=Augment(flips="dihedral", shift=2)), RECIPES["nephros"]]


def measure(recipe: Recipe, split: Split, settings: Settings) -> Row:
    """Return the rates of the step fed and fixed, and of the input side alone."""
    fit = fit_of(recipe, split, settings.device)
    batch = next(iter(fit.train_batches.read(recipe.batch_size)))[1:]
    contenders = {
        "fed": mean_rate(steps(fit, batches_of(fit)), fit.device),
        "fixed": mean_rate(steps(fit, itertools.repeat(batch)), fit.device),
        "input": mean_rate(_epochs(fit), fit.device),
    }
    rates = interleave(contenders, settings)
    return {
        "recipe": recipe.name,
        "augmentation": f"{recipe.augment.flips}, shift {recipe.augment.shift}",
        "fed_images_per_s": summary(rates["fed"]),
        "fixed_images_per_s": summary(rates["fixed"]),
        "share": ratio(rates["fed"], rates["fixed"]),
        "target_share": TARGET,
        "input_us_per_image": summary([1e6 / rate for rate in rates["input"]]),
    }


def _epochs(fit: Fit) -> Iterator[float]:
    """Make whole epochs of batches, the shuffle and the random numbers at their start included; yield the images of each."""
    n, made = len(fit.train_batches), 0
    for _, labels in batches_of(fit):
        made += len(labels)
        if made == n:
            yield n
            made = 0


def main() -> None:
    """Run the benchmark."""
    settings = parse(parser(__doc__ or ""), "input_side")
    split, data = open_data(settings)
    rows = [measure(recipe, split, settings) for recipe in CASES]
    publish(settings, f"Fed step against the same step on one fixed batch, {data}", rows, data)


if __name__ == "__main__":
    main()
