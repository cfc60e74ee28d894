"""Model initialization: the recipe's classifier with fresh weights for a data set, and whether the two fit together."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch

from nephros.data.batches import batch_boundaries
from nephros.data.dataset import Dataset
from nephros.data.images.tta_views import includes_rotations
from nephros.data.pixel_statistics import MIN_STD, channel_statistics, pixel_statistics
from nephros.data.split import Split
from nephros.environment import available_memory
from nephros.errors import IncompatibleError, InvalidArgument
from nephros.models import build_network
from nephros.models.classifier import Classifier, InputSpec
from nephros.models.nephnet3d import VOLUME_NETWORKS
from nephros.models.serialization import AllocationLimit
from nephros.reading import MalformedContent
from nephros.recipe import Recipe


def input_spec(dataset: Dataset) -> InputSpec:
    """Return the channels, image size, slices and number of classes that a network for the data needs."""
    return InputSpec(dataset.channels, *dataset.image_size, dataset.n_classes, dataset.depth)


def init_model(recipe: Recipe, train: Split, spec: InputSpec) -> Classifier:
    """Return the recipe's classifier with initial weights drawn from its seed, and with its normalization of the inputs.

    Raises IncompatibleError, before it takes memory, for a network that this machine's memory can't hold, and for one of images
    where the data are volumes, or vice versa; InvalidArgument for flips along the depth of images.
    """
    if recipe.augment.flips == "dihedral-depth" and spec.depth is None and recipe.model.network not in VOLUME_NETWORKS:
        raise InvalidArgument("augment.flips", recipe.augment.flips, "none, horizontal or dihedral for images")
    torch.manual_seed(recipe.seed)
    try:
        with AllocationLimit(available_memory() // torch.float32.itemsize):
            network = build_network(recipe.model, spec)
    except MalformedContent:
        raise IncompatibleError(
            f"The network of the recipe {recipe.name} takes more memory than there is: lower `model.base_channels`, "
            "`model.depth` or `model.hidden`."
        ) from None
    if (
        recipe.normalize == "dataset" and spec.depth is not None
    ):  # all voxels alike: a slice has no brightness of its own
        mean, std = pixel_statistics(train.images)
        return Classifier(network, [mean] * spec.depth, [max(std, MIN_STD)] * spec.depth)
    if recipe.normalize == "dataset":
        return Classifier(network, *channel_statistics(train.images))
    mean, std = {"symmetric": (0.5, 0.5), "zero_one": (0.0, 1.0)}[recipe.normalize]
    return Classifier(network, [mean] * spec.planes, [std] * spec.planes)


def check_tta_views(recipe: Recipe, dataset: Dataset) -> None:
    """Raise InvalidArgument when the recipe's test-time augmentation rotates images that are not square."""
    height, width = dataset.image_size
    if includes_rotations(recipe.tta_views) and height != width:
        raise InvalidArgument("tta_views", recipe.tta_views, f"1 or 5 for images of {height}x{width} pixels")


def check_last_batch(recipe: Recipe, dataset: Dataset, model: Classifier) -> None:
    """Raise InvalidArgument when the last batch is a single image, for which the network's batch normalization fails."""
    n_images = recipe.passes_per_epoch * len(dataset.train)
    if n_images % recipe.batch_size != 1 or recipe.last_batch == "balanced":
        return
    spec = input_spec(dataset)
    try:
        copy.deepcopy(model).train()(torch.zeros(1, spec.planes, spec.height, spec.width))
    except ValueError:
        raise InvalidArgument(
            "batch_size",
            recipe.batch_size,
            f"such that the last batch of {n_images:,} images is not a single image, for which batch normalization fails at "
            f"{spec.height}x{spec.width} pixels",
            hint="Or set `last_batch` to balanced.",
        ) from None


def check_batch_sharding(recipe: Recipe, n_images: int, world_size: int) -> None:
    """Raise InvalidArgument when a batch over `n_images` training images is smaller than the number of ranks."""
    edges = batch_boundaries(recipe.passes_per_epoch * n_images, recipe.batch_size, recipe.last_batch == "balanced")
    smallest = min(stop - start for start, stop in pairwise(edges))
    if smallest < world_size:
        raise InvalidArgument(
            "batch_size",
            recipe.batch_size,
            f"such that each of {world_size} processes has an image of every batch; the smallest has {smallest} of {n_images:,}",
            hint="Or set `last_batch` to balanced, or start fewer processes.",
        )
