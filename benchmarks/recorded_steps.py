"""Training steps on a GPU that are recorded and replayed, relative to steps whose kernels start one by one.

On a CPU nothing is recorded, so both are the same.
"""

from __future__ import annotations

from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish
from benchmarks.timing import interleave, mean_rate, ratio, summary
from benchmarks.workloads import endless_batches, load_train_split, trainer_for, training_steps
from nephros.data.split import Split
from nephros.finetuning.network import make_recipe
from nephros.presets import RECIPES
from nephros.recipe import Recipe

FINETUNED_IMAGES = 300


def recipes(quick: bool) -> list[Recipe]:
    """Return the recipes whose steps are timed: two of ours, a ResNet, whose kernels are large, and that of fine-tuning."""
    if quick:
        return [make_recipe("network", RECIPES["nephros-fast"].model, FINETUNED_IMAGES, 0, 1)]
    presets = [RECIPES[name] for name in ("nephros", "nephros-fast", "medmnist-resnet18")]
    return [*presets, make_recipe("network", RECIPES["nephros"].model, FINETUNED_IMAGES, 0, 1)]


def measure(recipe: Recipe, split: Split, config: BenchmarkConfig) -> Row:
    """Return both rates and their ratio."""
    contenders = {}
    for name in ("recorded", "usual"):
        trainer = trainer_for(recipe, split, config.device)
        if name == "usual":
            trainer.step.graphs = None
        contenders[name] = mean_rate(training_steps(trainer, endless_batches(trainer)), config.device)
    rates = interleave(contenders, config)
    return {
        "recipe": recipe.name,
        "batch": recipe.batch_size,
        "recorded_images_per_s": summary(rates["recorded"]),
        "usual_images_per_s": summary(rates["usual"]),
        "speedup": ratio(rates["recorded"], rates["usual"]),
    }


def main() -> None:
    """Run the benchmark."""
    config = parse_config(build_parser(__doc__ or ""), "recorded_steps")
    split, data = load_train_split(config)
    rows = [measure(recipe, split, config) for recipe in recipes(config.quick)]
    publish(config, f"Recorded training steps, {data}", rows, data)


if __name__ == "__main__":
    main()
