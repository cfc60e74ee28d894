"""Speed and peak memory of training steps in bf16 and fp16 against full precision, on each processor at hand."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Literal

import torch

from benchmarks.common import Row, Settings, in_process, parse, parser, publish
from benchmarks.timing import Contender, interleave, mean_rate, ratio, summary
from benchmarks.workloads import batches_of, fit_of, open_data, steps
from nephros.data.dataset import Split
from nephros.device import describe
from nephros.presets import RECIPES
from nephros.recipe import Recipe

MODES: tuple[Literal["off", "bf16", "fp16"], ...] = ("off", "bf16", "fp16")
SLOW = 5.0
"""Seconds a step, of the first two, beyond which a precision gets no turns: where a chip lacks it, a step can take a minute."""


def measure(recipe: Recipe, split: Split, device: torch.device, settings: Settings) -> list[Row]:
    """Return one row a precision; one in which the step does not run, or crawls, says so."""
    contenders: dict[str, Contender] = {}
    rates: dict[str, list[float]] = {}
    remarks: dict[str, str] = {}
    for amp in MODES:
        fit = fit_of(replace(recipe, amp=amp), split, device)
        turn = mean_rate(steps(fit, batches_of(fit)), device)
        try:
            rate = turn(0.0)
        except RuntimeError as error:
            remarks[amp] = f"fails: {str(error).splitlines()[0]}"
            continue
        if amp != "off" and recipe.batch_size / rate > SLOW and recipe.batch_size / (rate := turn(0.0)) > SLOW:
            rates[amp] = [rate]
            remarks[amp] = "one step timed, as it took so long"
        else:
            contenders[amp] = turn
    rates |= interleave(contenders, settings)
    rows: list[Row] = []
    for amp in MODES:
        row: Row = {"processor": describe(device), "recipe": recipe.name, "batch": recipe.batch_size, "amp": amp}
        if amp in rates:
            full = rates["off"] if amp in contenders else [statistics.median(rates["off"])]
            row |= {"images_per_s": summary(rates[amp]), "speed_ratio": ratio(rates[amp], full)}
        if amp in contenders:
            found = peak_memory(recipe, amp, device)
            row |= found | {"training_mib": found["peak_mib"] - found["before_mib"]}
        rows.append(row | ({"remark": remarks[amp]} if amp in remarks else {}))
    return rows


def peak_memory(recipe: Recipe, amp: str, device: torch.device) -> dict[str, float]:
    """Return what peak_memory.py measures in a fresh process."""
    words = [recipe.name, amp, str(recipe.batch_size), "--device", device.type]
    return dict(in_process("peak_memory", words))


def main() -> None:
    """Run the benchmark."""
    settings = parse(parser(__doc__ or ""), "mixed_precision")
    split, data = open_data(settings)
    recipes = [RECIPES["poster"], RECIPES["nephros"]]
    if settings.quick:
        recipes = [replace(RECIPES["poster"], batch_size=4)]
    both = settings.device.type == "cuda" and settings.options.device == "auto"
    processors = [settings.device, torch.device("cpu")] if both else [settings.device]
    rows = [row for device in processors for recipe in recipes for row in measure(recipe, split, device, settings)]
    publish(settings, f"Mixed against full precision, {data}", rows, data)


if __name__ == "__main__":
    main()
