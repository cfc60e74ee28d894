"""Networks by name: a new one is one file and one line in MODELS."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from nephros.errors import NephrosError, did_you_mean
from nephros.models.classical import CLASSICAL_MODELS
from nephros.models.compact import Compact
from nephros.models.course import Course
from nephros.models.equivariant import Equivariant
from nephros.models.input_spec import InputSpec
from nephros.models.poster import nephnet2d, poster
from nephros.models.resnet import resnet18, resnet50
from nephros.recipe_parts import ModelConfig

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
    """Return the network that `config` names, with fresh weights, for data of that shape; UserError for an unknown name."""
    if config.network not in MODELS:
        raise NephrosError(
            f"--model.network is '{config.network}', but it must be one of {', '.join([*MODELS, *CLASSICAL_MODELS])}."
            f"{did_you_mean(config.network, [*MODELS, *CLASSICAL_MODELS])}"
        )
    return MODELS[config.network](config, spec)
