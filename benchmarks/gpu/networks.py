"""A network that one job trains: with the epochs that fit into its time, or all of its recipe's, and resumed where it stopped."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.timing import mean_rate
from benchmarks.workloads import endless_batches, trainer_for, training_steps
from nephros import device as devices
from nephros.data.load import is_builtin, load_dataset
from nephros.data.split import Split
from nephros.recipe import Recipe
from nephros.recipe_io import field_names, get_recipe, override_fields
from nephros.runs import RunFolder
from nephros.workflows.resume import resume
from nephros.workflows.train import train

LARGE_BATCHES = {"batch_size": 512, "optimizer__lr": 0.02}
"""With which a network, whose steps take as long as the CPU needs to start their kernels, takes half as long per epoch."""
SECONDS_AROUND = 60.0
"""For data, scores and report."""
SECONDS_FOR_TEACHERS = 55.0
"""For the predictions of all teachers, before the first epoch."""
VALIDATION_SECONDS = 1.5
MARGIN = 1.6
"""By which epochs may take longer than the steps that were timed, when fewer jobs ran beside them: of a run that its deadline
cuts nothing counts, while one that ends early has a few epochs less."""


@dataclass(frozen=True)
class Network:
    """A run: a recipe with its changes, and what it needs."""

    name: str
    folder: str
    """Of its plan, as in RUNS/FOLDER/NAME."""
    recipe: str
    epochs: Literal["all", "shorter", "first"] | int = "all"
    """all of the recipe's; shorter: as many as fit, with a schedule of that length; first: as many as fit of the recipe's, at the
    rates that they have there."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    teachers: tuple[str, ...] = ()
    """Bundled models, or names of networks, of which those that are complete teach."""
    init: str | None = None
    test: bool = False


_TEACHERS = ("wide-128", "wide-160", "deep-96")


def _wide(name: str, channels: int, weight: float, seed: int, **overrides: Any) -> Network:
    """Return a wide network of docs/results/frontier.md: a teacher, or, of the others, a student."""
    width = {"model__base_channels": channels, "distillation_weight": weight, "seed": seed}
    if name in _TEACHERS:
        rates = {**LARGE_BATCHES, "optimizer__lr": 0.028}
        return Network(name, "frontier", "nephros-large", 18, {**width, **rates, **overrides}, ("nephros-distilled",))
    init = "nephros-distilled" if channels == 64 else f"wide-{channels}"
    return Network(name, "frontier", "nephros-large", "shorter", {**width, **LARGE_BATCHES}, _TEACHERS, init)


NETWORKS = {
    network.name: network
    for network in (
        Network(
            "second-128", "frontier", "nephros-large", 40, {**LARGE_BATCHES, "seed": 31, "distillation_weight": 0.8},
            ("nephros-large",), "nephros-large",
        ),
        Network(
            "second-64", "frontier", "nephros-distilled", "shorter", {**LARGE_BATCHES, "seed": 32, "epochs": 300},
            ("nephros-large", "second-128"), "nephros-distilled",
        ),
        Network(
            "third-64", "frontier", "nephros-distilled", 90, {**LARGE_BATCHES, "seed": 34}, ("nephros-large",),
            "nephros-distilled",
        ),
        Network(
            "second-32", "frontier", "nephros-fast", 100,
            {**LARGE_BATCHES, "seed": 33, "distillation_weight": 0.9, "tta_views": 1}, ("nephros-large", "nephros-distilled"),
            "nephros-fast",
        ),
        *(Network(f"nephros-{seed}", "nephros", "nephros", "all", {"seed": seed}, test=True) for seed in range(3)),
        *(
            Network(f"medmnist-{network}-0", "gpu", f"medmnist-{network}", "first", {"amp": "bf16"}, test=True)
            for network in ("resnet18", "resnet50")
        ),
        Network("strong-baseline-0", "gpu", "strong-baseline", "shorter", {"amp": "bf16"}, test=True),
        _wide("wide-128", 128, 0.7, 11),
        _wide("wide-160", 160, 0.5, 12),
        _wide("deep-96", 96, 0.5, 13, model__depth=2),
        _wide("student-64", 64, 0.9, 21),
        _wide("student-128", 128, 0.8, 22),
        _wide("student-160", 160, 0.8, 23),
    )
}  # fmt: skip


def is_complete(run: Path) -> bool:
    """Return whether a run is trained, scored and reported."""
    return RunFolder.exists(run) and RunFolder.open(run).info().status == "complete"


def run_of(name: str, runs: Path) -> Path:
    """Return the folder of a network's run."""
    return runs / NETWORKS[name].folder / name


def first_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """Return the first epochs of a recipe whose rate falls at milestones, at the rates that they have in the whole."""
    schedule = recipe.schedule
    milestones = tuple(m * recipe.epochs / epochs for m in schedule.milestones if m * recipe.epochs < epochs)
    name: Literal["step", "constant"] = "step" if milestones else "constant"
    schedule = dataclasses.replace(schedule, name=name, milestones=milestones)
    return dataclasses.replace(recipe, epochs=epochs, schedule=schedule)


def epochs_that_fit(images_per_s: float, n_images: int, seconds: float, most: int) -> int:
    """Return how many epochs a run can have within some seconds, all but training included; at least 1."""
    per_epoch = MARGIN * n_images / images_per_s + VALIDATION_SECONDS
    return int(min(max(seconds / per_epoch, 1), most))


def measure_rate(recipe: Recipe, split: Split, device: torch.device, seconds: float) -> float:
    """Return the images per second of the recipe's steps, with whatever runs beside them."""
    trainer = trainer_for(dataclasses.replace(recipe, distillation_weight=0.0), split, device)
    turn = mean_rate(training_steps(trainer, endless_batches(trainer)), device)
    turn(seconds)
    return turn(seconds)


def recipe_of(network: Network, data: str, device: str, seconds: float) -> Recipe:
    """Return the recipe of a run that has some seconds, of which a few are taken to time its steps."""
    start, recipe = time.monotonic(), override_fields(get_recipe(network.recipe), network.overrides)
    if network.epochs == "all":
        return recipe
    if isinstance(network.epochs, int):
        return dataclasses.replace(recipe, epochs=network.epochs)
    split = load_dataset(data).train
    rate = measure_rate(recipe, split, devices.resolve_device(device), 4.0)
    around = SECONDS_AROUND + (SECONDS_FOR_TEACHERS if network.teachers else 0.0)
    left = seconds - (time.monotonic() - start) - around
    epochs = epochs_that_fit(rate, len(split), left, recipe.epochs)
    print(f"{rate:,.0f} images/s and {seconds:.0f} s: {epochs} epochs", flush=True)
    return first_epochs(recipe, epochs) if network.epochs == "first" else dataclasses.replace(recipe, epochs=epochs)


def quick_recipe(network: Network) -> Recipe:
    """Return a recipe that a CPU can train in seconds, on any data: narrow, with one epoch, and without teachers."""
    width = {} if network.init else {"model__base_channels": 8}
    recipe = override_fields(get_recipe(network.recipe), {**network.overrides, **width, "amp": "off"})
    recipe = dataclasses.replace(recipe, distillation_weight=0.0)
    return first_epochs(recipe, 1) if network.epochs == "first" else dataclasses.replace(recipe, epochs=1)


def command_of(network: Network, recipe: Recipe, teachers: Sequence[str | Path], device: str) -> str:
    """Return the command that trains the run alone, where its teachers are in runs/ as they are in RUNS."""
    options = {
        key: "[" + ",".join(map(str, value)) + "]" if isinstance(value, tuple) else value
        for key, value in field_values(recipe).items()
        if value != field_values(get_recipe(network.recipe))[key]
    }
    names = [f"runs/{NETWORKS[path.name].folder}/{path.name}" if isinstance(path, Path) else path for path in teachers]
    init = f"runs/{NETWORKS[network.init].folder}/{network.init}" if network.init in NETWORKS else network.init
    options |= {"teachers": ",".join(names)} if names else {}
    options |= {"init": init} if init else {}
    parts = [f"nephros train {network.recipe}", *(f"--{key} {value}" for key, value in options.items())]
    return " ".join(
        [*parts, f"--out runs/{network.folder}/{network.name}", f"--device {device}", *["--test"] * network.test]
    )


def field_values(recipe: Recipe) -> dict[str, Any]:
    """Return the fields by their options, such as ``optimizer.lr``."""
    values = {name: getattr(recipe, name.partition(".")[0]) for name in field_names()}
    return {name: getattr(value, name.partition(".")[2]) if "." in name else value for name, value in values.items()}


def train_one(name: str, runs: Path, data: str, device: str, seconds: float, quick: bool) -> None:
    """Train a network within some seconds, if its epochs may be fewer, or resume it."""
    network, root = NETWORKS[name], run_of(name, runs)
    if RunFolder.exists(root):
        resume(root, None if is_builtin(data) else data, device=device)
        return
    recipe = quick_recipe(network) if quick else recipe_of(network, data, device, seconds)
    teachers: list[str | Path] = [teacher for teacher in network.teachers if teacher not in NETWORKS]
    teacher_runs = [run_of(teacher, runs) for teacher in network.teachers if teacher in NETWORKS]
    teachers += [run for run in teacher_runs if is_complete(run)]
    init = run_of(network.init, runs) if network.init in NETWORKS else network.init
    train(
        recipe,
        data,
        out=root,
        device=device,
        teachers=[] if quick else teachers,
        init=init,
        test=network.test,
        command=command_of(network, recipe, [] if quick else teachers, device),
    )
