"""Networks by name. To add one, write its class and add a line to MODELS."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from nephros.errors import UnknownName
from nephros.models.classical import CLASSICAL_MODELS
from nephros.models.classifier import InputSpec
from nephros.models.convnets import Course, nephnet2d, poster
from nephros.models.equivariant import Equivariant
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
}


def build_network(config: ModelConfig, spec: InputSpec) -> nn.Module:
    """Return the network that `config` names, with initial weights, for inputs of `spec`; UnknownName if there is none."""
    if config.network not in MODELS:
        names = [*MODELS, *CLASSICAL_MODELS]
        raise UnknownName(
            "model.network", config.network, names, kind="network", hint=f"Choose one of {', '.join(names)}."
        )
    return MODELS[config.network](config, spec)
