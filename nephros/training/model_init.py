"""The beginning of a fit: the recipe's classifier with fresh weights, shaped for the data."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch

from nephros.data.batches import batch_edges
from nephros.data.dataset import Dataset, Split
from nephros.data.statistics import channel_statistics
from nephros.errors import UserError
from nephros.models import build
from nephros.models.classifier import Classifier
from nephros.models.input_spec import Shape
from nephros.models.tta import turning
from nephros.recipe import Recipe


def shape_of(dataset: Dataset) -> Shape:
    """Return what a network must fit to take the data."""
    return Shape(dataset.channels, *dataset.size, dataset.classes)


def fresh_model(recipe: Recipe, train: Split, shape: Shape) -> Classifier:
    """Return the recipe's classifier, with first weights drawn by its seed and, if it says so, the split's normalisation."""
    torch.manual_seed(recipe.seed)
    network = build(recipe.model, shape)
    if recipe.normalise == "data":
        return Classifier(network, *channel_statistics(train.images))
    mean, std = {"half": (0.5, 0.5), "unit": (0.0, 1.0)}[recipe.normalise]
    return Classifier(network, [mean] * shape.channels, [std] * shape.channels)


def check_views(recipe: Recipe, dataset: Dataset) -> None:
    """Raise UserError when a recipe's views turn images that are not square."""
    height, width = dataset.size
    if turning(recipe.views) and height != width:
        raise UserError(f"--views {recipe.views} turns the images, but they are {height}x{width} pixels: use 1 or 5.")


def check_last_batch(recipe: Recipe, dataset: Dataset, model: Classifier) -> None:
    """Raise UserError when the last batch is one image and the network's batch normalisation can't take that."""
    images = recipe.passes * len(dataset.train)
    if images % recipe.batch_size != 1 or recipe.last_batch == "even":
        return
    shape = shape_of(dataset)
    try:
        copy.deepcopy(model).train()(torch.zeros(1, shape.channels, shape.height, shape.width))
    except ValueError:
        raise UserError(
            f"--batch_size {recipe.batch_size} leaves one image of {images:,} for the last batch, which batch "
            f"normalisation can't take at {shape.height}x{shape.width} pixels: choose another, or --last_batch even."
        ) from None


def check_parts(recipe: Recipe, images: int, world: int) -> None:
    """Raise UserError when a batch of an epoch of so many images leaves one of `world` ranks without any."""
    edges = batch_edges(recipe.passes * images, recipe.batch_size, recipe.last_batch == "even")
    least = min(stop - start for start, stop in pairwise(edges))
    if least < world:
        raise UserError(
            f"--batch_size {recipe.batch_size} makes a batch of {least} of the {images:,} training images, too few for "
            f"{world} processes: choose another, --last_batch even, or fewer processes."
        )
