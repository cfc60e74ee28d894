"""Share of the machine's matrix-product rate that a whole training step reaches, counting only its multiply-adds."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish
from benchmarks.timing import best_rate, interleave, mean_rate, ratio, summary
from benchmarks.workloads import (
    endless_batches,
    gray_input_spec,
    load_train_split,
    matrix_products,
    trainer_for,
    training_steps,
)
from nephros.data.split import Split
from nephros.device import autocast_dtype
from nephros.models import build_network
from nephros.models.flops import count_multiply_adds
from nephros.presets import RECIPES
from nephros.recipe import Recipe

TARGETS = {"nephros": 0.6, "medmnist-resnet18": 0.5, "course-1": None, "poster": None}


def measure(recipe: Recipe, split: Split, config: BenchmarkConfig) -> Row:
    """Return the recipe's rate, the machine's, and their ratio.

    A multiply-add counts as 6 operations: 2 forward and 4 backward (gradients of inputs and of weights).
    """
    trainer = trainer_for(recipe, split, config.device)
    shape = gray_input_spec(split)
    cost = count_multiply_adds(build_network(recipe.model, shape), shape)
    dtype = autocast_dtype(recipe.amp, config.device)
    contenders = {
        "matrix": best_rate(matrix_products(config.device, dtype), config.device),
        "images": mean_rate(training_steps(trainer, endless_batches(trainer)), config.device),
    }
    rates = interleave(contenders, config)
    used_flops = [6 * cost * rate for rate in rates["images"]]
    full_precision = "tf32" if config.device.type == "cuda" else "float32"
    return {
        "recipe": recipe.name,
        "batch": recipe.batch_size,
        "multiply_adds_per_image": cost,
        "images_per_s": summary(rates["images"]),
        "used_gflops": summary([rate / 1e9 for rate in used_flops]),
        "matrix_gflops": summary([rate / 1e9 for rate in rates["matrix"]]),
        "matrix_precision": str(dtype).removeprefix("torch.") if dtype else full_precision,
        "share": ratio(used_flops, rates["matrix"]),
        "target_share": TARGETS[recipe.name],
    }


def main() -> None:
    """Run the benchmark."""
    config = parse_config(build_parser(__doc__ or ""), "machine_share")
    split, data = load_train_split(config)
    rows = []
    for name in TARGETS:
        recipe = RECIPES[name]
        rows.append(measure(replace(recipe, batch_size=16) if config.quick else recipe, split, config))
    publish(config, f"Training steps against matrix products, {data}", rows, data)


if __name__ == "__main__":
    main()
