"""Creating a network as a torch module, with random or trained weights, to train or probe with code of one's own."""

from __future__ import annotations

import logging

import torch

from nephros.data.reference_statistics import PIXEL_MEAN, PIXEL_STD
from nephros.data.synthetic import NUCLEUS_TYPES, make_synthetic
from nephros.errors import InvalidArgument, UnknownName
from nephros.exporters.pretrained import open_pretrained
from nephros.finetuning.features import with_channels
from nephros.inference.model_names import pretrained_names
from nephros.models import build_network, default_input_spec
from nephros.models.classifier import Classifier, InputSpec
from nephros.models.norm_statistics import recenter_batch_norm
from nephros.presets import NETWORK_RECIPES

logger = logging.getLogger(__name__)

N_CLASSES, IMAGE_SIZE = 8, 28
"""Of TissueMNIST."""
_N_SYNTHETIC_CELLS = 128
_NORMALIZATIONS = {"symmetric": (0.5, 0.5), "zero_one": (0.0, 1.0), "dataset": (PIXEL_MEAN, PIXEL_STD)}


def create_model(
    name: str = "nephros",
    *,
    num_classes: int | None = None,
    in_channels: int = 1,
    image_size: int | None = None,
    depth: int | None = None,
    pretrained: bool = False,
) -> Classifier:
    """Return a network by name, as a `torch.nn.Module` that holds the normalization of its inputs too.

    It is in training mode, as torch makes modules. Its `forward` takes images (n, c, h, w) as stored, uint8 or float in 0..255,
    and returns logits (n, classes); `forward_features(x)` returns feature maps, `forward_head(maps)` logits of these, and
    `reset_classifier(n)` replaces the last layer. Random weights come from torch's global generator.

    Args:
        name: one of `nephros.list_models()`. With `pretrained` one of `nephros.list_models(pretrained=True)`: names of one
            network share the weights of the bundled model, which was trained on TissueMNIST's 8 classes.
        num_classes: number of classes; None takes 8, or those of the weights. With `pretrained` and another number the last layer
            begins with random weights.
        in_channels: channels of the images. With `pretrained`, the filters of the first layer are repeated for each channel and
            divided by their number, so that a gray image in every channel gives what it gave in one.
        image_size: pixels per side; None takes 28, as the pretrained network was trained, or 32 for a network of volumes.
        depth: slices of the volumes that a network such as nephnet3d takes, (n, d, h, w) in place of (n, c, h, w); None takes 7
            for it.
        pretrained: whether to start from trained weights.

    Raises:
        UnknownName: there is no such model, or it has no trained weights.
        InvalidArgument: a number is out of range.
        IncompatibleError: images are too small for the network.
    """
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size, "depth": depth}
    for parameter, value in sizes.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InvalidArgument(parameter, value, "a whole number of at least 1")
    if name not in NETWORK_RECIPES:
        raise UnknownName("name", name, NETWORK_RECIPES, kind="model", hint="`nephros.list_models()` returns all.")
    if pretrained:
        return _pretrained_model(name, num_classes, in_channels, image_size or IMAGE_SIZE)
    recipe = NETWORK_RECIPES[name]
    usual = default_input_spec(recipe.model)
    side, classes = image_size or usual.height, N_CLASSES if num_classes is None else num_classes
    spec = InputSpec(in_channels, side, side, classes, depth or usual.depth)
    if spec.depth is not None and in_channels != 1:
        raise InvalidArgument("in_channels", in_channels, "1 for volumes")
    mean, std = _NORMALIZATIONS[recipe.normalize]
    return Classifier(build_network(recipe.model, spec), [mean] * spec.planes, [std] * spec.planes)


def _pretrained_model(name: str, num_classes: int | None, in_channels: int, image_size: int) -> Classifier:
    if name not in pretrained_names():
        raise UnknownName(
            "name",
            name,
            pretrained_names(),
            kind="pretrained model",
            hint="`nephros.list_models(pretrained=True)` returns all; give `pretrained=False` for random weights.",
        )
    weights = open_pretrained(name)
    if image_size != weights.input_spec.height:
        raise InvalidArgument("image_size", image_size, f"{weights.input_spec.height}, the size of the trained weights")
    model = weights.classifier
    if weights.is_folded:
        # In evaluation mode this changes nothing; in training mode the statistics of a batch are then near the stored ones.
        cells = make_synthetic(_N_SYNTHETIC_CELLS, len(NUCLEUS_TYPES), len(NUCLEUS_TYPES)).train.images
        recenter_batch_norm(model, [torch.from_numpy(cells)[:, None]])
    if in_channels != weights.input_spec.channels:
        logger.warning(
            "the weights are for %d channel: the filters of the first layer are repeated for %d and divided by their number",
            weights.input_spec.channels,
            in_channels,
        )
        model = with_channels(model, in_channels)
    if num_classes is not None and num_classes != weights.input_spec.n_classes:
        model.reset_classifier(num_classes)
    return model.train()
