"""The beginning of a run: its model with fresh weights, its name, and what run.json says of it."""

from __future__ import annotations

import dataclasses
import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from nephros import device as devices
from nephros.data.dataset import Dataset
from nephros.distributed import Ranks
from nephros.environment import commit, versions
from nephros.models.classifier import Classifier
from nephros.models.flops import multiply_adds, parameters
from nephros.models.input_spec import Shape
from nephros.recipe import Recipe
from nephros.runs import RunInfo
from nephros.training.model_init import shape_of


def describe_run(
    recipe: Recipe,
    dataset: Dataset,
    model: Classifier | None,
    request: dict[str, Any],
    processor: torch.device,
    test: bool,
    command: str,
    ranks: Ranks,
) -> RunInfo:
    """Return what run.json says of a run that is about to begin; a classical baseline has no `model` before it is learnt."""
    shape = shape_of(dataset)
    return RunInfo(
        recipe=recipe.name,
        recipe_hash=recipe.hash,
        seed=recipe.seed,
        command=command,
        device=describe_processors(processor, ranks, recipe.amp),
        device_type=processor.type,
        threads=torch.get_num_threads(),
        processes=ranks.world,
        data=dataset.provenance.to_dict(),
        request=request,
        class_names=list(dataset.class_names),
        shape=dataclasses.asdict(shape),
        class_counts={name: split.counts(dataset.classes).tolist() for name, split in dataset.splits()},
        **described(model, shape),
        test=test,
        views=recipe.views,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        commit=commit(),
        warnings=list(dataset.warnings),
    )


def described(model: Classifier | None, shape: Shape) -> dict[str, Any]:
    """Return what run.json says of the model itself."""
    if model is None:
        return {"normalisation": {"mean": [], "std": []}, "parameters": 0, "multiply_adds": 0}
    return {
        "normalisation": {"mean": model.mean.tolist(), "std": model.std.tolist()},
        "parameters": parameters(model.network),
        "multiply_adds": multiply_adds(model.network, shape),
    }


def describe_processors(processor: torch.device, ranks: Ranks, amp: str) -> str:
    """Return what a network trains on, such as `CPU, 2 threads, bf16` or `2 processes, each on CPU, 1 threads`."""
    dtype = devices.precision(amp, processor)
    one = devices.describe(processor) + (f", {devices.short(dtype)}" if dtype else "")
    return one if ranks.world == 1 else f"{ranks.world} processes, each on {one}"


def default_out(recipe: Recipe, synthetic: bool) -> Path:
    """Return runs/RECIPE-DATE-TIME, numbered where several runs begin within a second."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    name = f"{recipe.name}-{'synthetic-' if synthetic else ''}{stamp}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(path for path in (Path("runs") / candidate for candidate in names) if not path.exists())
