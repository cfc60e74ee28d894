"""Networks by name. To add one, write its class and add a line to MODELS."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from nephros.data.images.tiff_description import VOLUME_SHAPE
from nephros.errors import UnknownName
from nephros.models.classical import CLASSICAL_MODELS
from nephros.models.classifier import InputSpec
from nephros.models.convnets import Course, nephnet2d, poster
from nephros.models.equivariant import Equivariant
from nephros.models.nephnet3d import VOLUME_NETWORKS, check_input
from nephros.models.resnet import Compact, resnet18, resnet50
from nephros.recipe import ModelConfig

MODELS: dict[str, Callable[[ModelConfig, InputSpec], nn.Module]] = {
    "compact": Compact,
    "equivariant": Equivariant,
    "course": Course,
    "poster": poster,
    "nephnet2d": nephnet2d,
    "resnet18": resnet18,
    "resnet50": resnet50,
    **VOLUME_NETWORKS,
}


def default_input_spec(config: ModelConfig) -> InputSpec:
    """Return the inputs of TissueMNIST's 8 classes: 28x28 images or, for a network of volumes, crops of 7x32x32 voxels."""
    if config.network in VOLUME_NETWORKS:
        depth, height, width = VOLUME_SHAPE
        return InputSpec(1, height, width, 8, depth)
    return InputSpec(1, 28, 28, 8)


def build_network(config: ModelConfig, spec: InputSpec) -> nn.Module:
    """Return the network that `config` names, with initial weights, for inputs of `spec`.

    Raises UnknownName if there is none, and IncompatibleError where it takes images and the inputs are volumes, or vice versa.
    """
    if config.network not in MODELS:
        names = [*MODELS, *CLASSICAL_MODELS]
        raise UnknownName(
            "model.network", config.network, names, kind="network", hint=f"Choose one of {', '.join(names)}."
        )
    check_input(config, spec)
    return MODELS[config.network](config, spec)
