"""Speed and peak memory of training steps in bf16 and fp16 against full precision, on each available processor."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Literal

import torch

from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish, run_module
from benchmarks.timing import Contender, interleave, mean_rate, ratio, summary
from benchmarks.workloads import endless_batches, load_train_split, trainer_for, training_steps
from nephros.data.split import Split
from nephros.device import device_name
from nephros.presets import RECIPES
from nephros.recipe import Recipe

AMP_MODES: tuple[Literal["off", "bf16", "fp16"], ...] = ("off", "bf16", "fp16")
SLOW_STEP_S = 5.0
"""Seconds per step above which a precision gets no turns: without hardware support, one step can take a minute."""


def measure(recipe: Recipe, split: Split, device: torch.device, config: BenchmarkConfig) -> list[Row]:
    """Return one row per precision, with a remark where the step fails or is extremely slow."""
    contenders: dict[str, Contender] = {}
    rates: dict[str, list[float]] = {}
    remarks: dict[str, str] = {}
    for amp in AMP_MODES:
        trainer = trainer_for(replace(recipe, amp=amp), split, device)
        turn = mean_rate(training_steps(trainer, endless_batches(trainer)), device)
        try:
            rate = turn(0.0)
        except RuntimeError as error:
            remarks[amp] = f"fails: {str(error).splitlines()[0]}"
            continue
        if (
            amp != "off"
            and recipe.batch_size / rate > SLOW_STEP_S
            and recipe.batch_size / (rate := turn(0.0)) > SLOW_STEP_S
        ):
            rates[amp] = [rate]
            remarks[amp] = "only one step timed, since it took so long"
        else:
            contenders[amp] = turn
    rates |= interleave(contenders, config)
    rows: list[Row] = []
    for amp in AMP_MODES:
        row: Row = {"processor": device_name(device), "recipe": recipe.name, "batch": recipe.batch_size, "amp": amp}
        if amp in rates:
            baseline_rates = rates["off"] if amp in contenders else [statistics.median(rates["off"])]
            row |= {"images_per_s": summary(rates[amp]), "speed_ratio": ratio(rates[amp], baseline_rates)}
        if amp in contenders:
            memory = peak_memory(recipe, amp, device)
            row |= memory | {"training_mib": memory["peak_mib"] - memory["before_mib"]}
        rows.append(row | ({"remark": remarks[amp]} if amp in remarks else {}))
    return rows


def peak_memory(recipe: Recipe, amp: str, device: torch.device) -> dict[str, float]:
    """Return what peak_memory.py measures in a new process."""
    args = [recipe.name, amp, str(recipe.batch_size), "--device", device.type]
    return dict(run_module("peak_memory", args))


def main() -> None:
    """Run the benchmark."""
    config = parse_config(build_parser(__doc__ or ""), "mixed_precision")
    split, data = load_train_split(config)
    recipes = [RECIPES["poster"], RECIPES["nephros"]]
    if config.quick:
        recipes = [replace(RECIPES["poster"], batch_size=4)]
    both = config.device.type == "cuda" and config.args.device == "auto"
    processors = [config.device, torch.device("cpu")] if both else [config.device]
    rows = [row for device in processors for recipe in recipes for row in measure(recipe, split, device, config)]
    publish(config, f"Mixed against full precision, {data}", rows, data)


if __name__ == "__main__":
    main()
