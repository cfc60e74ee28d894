"""Where the time of a training step goes, by kind of operator, on one thread: torch's profiler over some steps.

Shares are of one run, so they hold on a busy machine too; `benchmarks.machine_share` says how fast the whole step is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch.profiler import profile

from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish
from benchmarks.timing import summary
from benchmarks.workloads import LR, endless_batches, load_train_split, trainer_for
from nephros.data.split import Split
from nephros.device import torch_threads
from nephros.presets import RECIPES
from nephros.recipe import Recipe

KINDS = {
    "convolutions forward": ("aten::mkldnn_convolution", "aten::thnn_conv2d", "aten::_slow_conv2d_forward"),
    "convolutions backward": ("aten::convolution_backward",),
    "batch normalization": ("aten::native_batch_norm", "aten::native_batch_norm_backward"),
    "ReLU and residual sums": (
        "aten::clamp_min_",
        "aten::relu_",
        "aten::threshold_backward",
        "aten::add_",
        "aten::add",
    ),
    "filters in eight orientations": ("aten::index", "aten::_index_put_impl_"),
    "copies and conversions": ("aten::copy_", "aten::clone", "aten::contiguous"),
    "optimizer": ("Optimizer.step#Muon.step", "aten::mm", "aten::addmm"),
}
"""Kind -> the operators whose own time it sums; every other operator counts as the rest."""
Precision = Literal["off", "bf16"]


def measure(recipe: Recipe, precision: Precision, split: Split, config: BenchmarkConfig) -> Row:
    """Return the share of each kind of operator in a step's processor time."""
    trainer = trainer_for(replace(recipe, amp=precision), split, config.device)
    batches = endless_batches(trainer)
    n_steps = 1 if config.quick else 5
    with torch_threads(1):
        trainer.step.take(*next(batches), LR)  # the first step includes setup
        with profile() as profiler:
            for _ in range(n_steps):
                trainer.step.take(*next(batches), LR)
    times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    total = sum(times.values())
    shares = {kind: sum(times.get(name, 0.0) for name in names) / total for kind, names in KINDS.items()}
    row: Row = {"recipe": recipe.name, "precision": "float32" if precision == "off" else precision}
    return row | shares | {"rest": 1 - sum(shares.values()), "ms_per_step": summary([total / n_steps / 1000])}


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.set_defaults(repeats=1, device="cpu")
    config = parse_config(parser, "step_profile")
    torch.set_num_threads(1)
    split, data = load_train_split(config)
    recipes = [RECIPES["nephros-fast"]] if config.quick else [RECIPES["nephros-fast"], RECIPES["nephros"]]
    precisions: tuple[Precision, ...] = ("bf16", "off")
    rows = [measure(recipe, precision, split, config) for recipe in recipes for precision in precisions]
    publish(config, f"Shares of a training step, {data}", rows, data)


if __name__ == "__main__":
    main()
