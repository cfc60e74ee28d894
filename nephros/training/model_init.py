"""The beginning of a fit: the recipe's classifier with fresh weights, shaped for the data."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch

from nephros.data.batches import batch_boundaries
from nephros.data.dataset import Dataset, Split, channel_statistics
from nephros.errors import NephrosError
from nephros.models import build_network
from nephros.models.classifier import Classifier
from nephros.models.input_spec import InputSpec
from nephros.models.tta import includes_rotations
from nephros.recipe import Recipe


def input_spec(dataset: Dataset) -> InputSpec:
    """Return what a network must fit to take the data."""
    return InputSpec(dataset.channels, *dataset.image_size, dataset.n_classes)


def init_model(recipe: Recipe, train: Split, spec: InputSpec) -> Classifier:
    """Return the recipe's classifier, with first weights drawn by its seed and, if it says so, the split's normalisation."""
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.model, spec)
    if recipe.normalize == "dataset":
        return Classifier(network, *channel_statistics(train.images))
    mean, std = {"symmetric": (0.5, 0.5), "zero_one": (0.0, 1.0)}[recipe.normalize]
    return Classifier(network, [mean] * spec.channels, [std] * spec.channels)


def check_tta_views(recipe: Recipe, dataset: Dataset) -> None:
    """Raise UserError when a recipe's views turn images that are not square."""
    height, width = dataset.image_size
    if includes_rotations(recipe.tta_views) and height != width:
        raise NephrosError(
            f"--tta_views {recipe.tta_views} turns the images, but they are {height}x{width} pixels: use 1 or 5."
        )


def check_last_batch(recipe: Recipe, dataset: Dataset, model: Classifier) -> None:
    """Raise UserError when the last batch is one image and the network's batch normalisation can't take that."""
    n_images = recipe.passes_per_epoch * len(dataset.train)
    if n_images % recipe.batch_size != 1 or recipe.last_batch == "balanced":
        return
    spec = input_spec(dataset)
    try:
        copy.deepcopy(model).train()(torch.zeros(1, spec.channels, spec.height, spec.width))
    except ValueError:
        raise NephrosError(
            f"--batch_size {recipe.batch_size} leaves one image of {n_images:,} for the last batch, which batch "
            f"normalisation can't take at {spec.height}x{spec.width} pixels: choose another, or --last_batch balanced."
        ) from None


def check_batch_sharding(recipe: Recipe, n_images: int, world_size: int) -> None:
    """Raise UserError when a batch of an epoch of so many images leaves one of `world_size` ranks without any."""
    edges = batch_boundaries(recipe.passes_per_epoch * n_images, recipe.batch_size, recipe.last_batch == "balanced")
    smallest = min(stop - start for start, stop in pairwise(edges))
    if smallest < world_size:
        raise NephrosError(
            f"--batch_size {recipe.batch_size} makes a batch of {smallest} of the {n_images:,} training images, too few for "
            f"{world_size} processes: choose another, --last_batch balanced, or fewer processes."
        )
