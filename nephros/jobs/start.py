"""The beginning of a run: its model with fresh weights, its name, and what run.json says of it."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from nephros import device as devices
from nephros.data.dataset import Dataset
from nephros.data.statistics import channel_statistics
from nephros.errors import UserError
from nephros.models import build
from nephros.models.classifier import Classifier
from nephros.models.cost import multiply_adds, parameters
from nephros.models.shape import Shape
from nephros.recipe import Recipe
from nephros.runs import RunInfo
from nephros.versions import commit, versions


def shape_of(dataset: Dataset) -> Shape:
    """Return what a network must fit to take the data."""
    return Shape(dataset.channels, *dataset.size, dataset.classes)


def fresh_model(recipe: Recipe, dataset: Dataset) -> Classifier:
    """Return the recipe's classifier for the data, with first weights drawn by the recipe's seed."""
    torch.manual_seed(recipe.seed)
    network = build(recipe.model, shape_of(dataset))
    if recipe.normalise == "data":
        return Classifier(network, *channel_statistics(dataset.train.images))
    mean, std = {"half": (0.5, 0.5), "unit": (0.0, 1.0)}[recipe.normalise]
    return Classifier(network, [mean] * dataset.channels, [std] * dataset.channels)


def check_last_batch(recipe: Recipe, dataset: Dataset, model: Classifier) -> None:
    """Raise UserError when the last batch is one image and the network's batch normalisation can't take that."""
    if len(dataset.train) % recipe.batch_size != 1 or recipe.last_batch == "even":
        return
    shape = shape_of(dataset)
    try:
        copy.deepcopy(model).train()(torch.zeros(1, shape.channels, shape.height, shape.width))
    except ValueError:
        raise UserError(
            f"--batch_size {recipe.batch_size} leaves one image of {len(dataset.train):,} for the last batch, which batch "
            f"normalisation can't take at {shape.height}x{shape.width} pixels: choose another, or --last_batch even."
        ) from None


def describe_run(
    recipe: Recipe,
    dataset: Dataset,
    model: Classifier,
    request: dict[str, Any],
    processor: torch.device,
    test: bool,
    command: str,
) -> RunInfo:
    """Return what run.json says of a run that is about to begin."""
    shape = shape_of(dataset)
    return RunInfo(
        recipe=recipe.name,
        recipe_hash=recipe.hash,
        seed=recipe.seed,
        command=command,
        device=devices.describe(processor),
        device_type=processor.type,
        threads=torch.get_num_threads(),
        data=dataset.provenance.to_dict(),
        request=request,
        class_names=list(dataset.class_names),
        shape=dataclasses.asdict(shape),
        class_counts={name: split.counts(dataset.classes).tolist() for name, split in dataset.splits()},
        normalisation={"mean": model.mean.tolist(), "std": model.std.tolist()},
        parameters=parameters(model),
        multiply_adds=multiply_adds(model.network, shape),
        test=test,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        commit=commit(),
        warnings=list(dataset.warnings),
    )


def default_out(recipe: Recipe, synthetic: bool) -> Path:
    """Return runs/RECIPE-DATE-TIME, numbered where several runs begin within a second."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    name = f"{recipe.name}-{'synthetic-' if synthetic else ''}{stamp}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(path for path in (Path("runs") / candidate for candidate in names) if not path.exists())
