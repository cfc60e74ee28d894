"""What share of the machine's matrix-product rate a whole training step reaches, counting only its multiply-adds."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.common import Row, Settings, parse, parser, publish
from benchmarks.timing import best_rate, interleave, mean_rate, ratio, summary
from benchmarks.workloads import batches_of, fit_of, open_data, products, shape_of, steps
from nephros.data.dataset import Split
from nephros.device import precision
from nephros.models import build
from nephros.models.flops import multiply_adds
from nephros.presets import RECIPES
from nephros.recipe import Recipe

TARGETS = {"nephros": 0.6, "medmnist-resnet18": 0.5, "course-1": None, "poster": None}


def measure(recipe: Recipe, split: Split, settings: Settings) -> Row:
    """Return the recipe's rate, the machine's, and their ratio.

    An image costs 6 operations a multiply-add: 2 forward and 4 backward (gradients of inputs and of weights).
    """
    fit = fit_of(recipe, split, settings.device)
    shape = shape_of(split)
    cost = multiply_adds(build(recipe.model, shape), shape)
    dtype = precision(recipe.amp, settings.device)
    contenders = {
        "matrix": best_rate(products(settings.device, dtype), settings.device),
        "images": mean_rate(steps(fit, batches_of(fit)), settings.device),
    }
    rates = interleave(contenders, settings)
    used = [6 * cost * rate for rate in rates["images"]]
    full = "tf32" if settings.device.type == "cuda" else "float32"
    return {
        "recipe": recipe.name,
        "batch": recipe.batch_size,
        "multiply_adds_per_image": cost,
        "images_per_s": summary(rates["images"]),
        "used_gflops": summary([rate / 1e9 for rate in used]),
        "matrix_gflops": summary([rate / 1e9 for rate in rates["matrix"]]),
        "matrix_precision": str(dtype).removeprefix("torch.") if dtype else full,
        "share": ratio(used, rates["matrix"]),
        "target_share": TARGETS[recipe.name],
    }


def main() -> None:
    """Run the benchmark."""
    settings = parse(parser(__doc__ or ""), "machine_share")
    split, data = open_data(settings)
    rows = []
    for name in TARGETS:
        recipe = RECIPES[name]
        rows.append(measure(replace(recipe, batch_size=16) if settings.quick else recipe, split, settings))
    publish(settings, f"Training steps against matrix products, {data}", rows, data)


if __name__ == "__main__":
    main()
