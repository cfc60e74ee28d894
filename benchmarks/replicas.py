"""Training steps on all cores, one replica of the network on each, against torch's own threads and against one thread.

The three take turns on an idle machine, and then beside a process that keeps one core busy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import torch

from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish
from benchmarks.timing import Contender, interleave, mean_rate, ratio, summary
from benchmarks.waiting import busy_process
from benchmarks.workloads import endless_batches, load_train_split, trainer_for, training_steps
from nephros.data.dataset import Split
from nephros.device import autocast_dtype, available_cores, dtype_name, torch_threads
from nephros.presets import RECIPES
from nephros.recipe import Recipe

RECIPE_NAMES = ("nephros-fast", "course-1")


def steps(recipe: Recipe, split: Split, config: BenchmarkConfig, threads: int, replicas: int) -> Contender:
    """Return a contender that trains with so many torch threads, or replicas, of one thread each."""

    def work() -> Iterator[float]:
        with torch_threads(max(threads, replicas)):
            trainer = trainer_for(recipe, split, config.device, replicas)
        units = training_steps(trainer, endless_batches(trainer))
        while True:
            with torch_threads(threads):
                unit = next(units)
            yield unit

    return mean_rate(work(), config.device)


def measure(recipe: Recipe, split: Split, config: BenchmarkConfig) -> list[Row]:
    """Return one row per way to use the cores, without and with a busy process."""
    n_cores, dtype = available_cores(), autocast_dtype(recipe.amp, config.device)
    former, single = f"one process, {n_cores} threads (the former default)", "one thread"
    contenders = {
        former: steps(recipe, split, config, n_cores, 1),
        single: steps(recipe, split, config, 1, 1),
        f"{n_cores} replicas": steps(recipe, split, config, 1, n_cores),
    }
    rows: list[Row] = []
    for background, background_process in (("nothing", nullcontext), ("a busy process", busy_process)):
        with background_process():
            rates = interleave(contenders, config)
        for name, contender_rates in rates.items():
            rows.append(
                {
                    "recipe": recipe.name,
                    "precision": dtype_name(dtype) if dtype else "float32",
                    "background_load": background,
                    "cores_used_by": name,
                    "images_per_s": summary(contender_rates),
                    "ratio_to_one_thread": ratio(contender_rates, rates[single]),
                    "ratio_to_former_default": ratio(contender_rates, rates[former]),
                }
            )
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.set_defaults(repeats=5, device="cpu")
    parser.add_argument("--recipes", nargs="+", default=RECIPE_NAMES, choices=list(RECIPES), metavar="RECIPE")
    config = parse_config(parser, "replicas")
    if config.device.type != "cpu":
        parser.error("this benchmark is of the CPU: give --device cpu.")
    torch.set_num_threads(available_cores())
    split, data = load_train_split(config)
    names = config.args.recipes[:1] if config.quick else config.args.recipes
    rows = [row for name in names for row in measure(RECIPES[name], split, config)]
    publish(config, f"Training steps on {available_cores()} cores, {data}", rows, data)


if __name__ == "__main__":
    main()
