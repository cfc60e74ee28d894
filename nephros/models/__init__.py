"""Networks by name: a new one is one file and one line in MODELS."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from nephros.errors import UserError, did_you_mean
from nephros.models.classical import CLASSICAL
from nephros.models.compact import Compact
from nephros.models.course import Course
from nephros.models.equivariant import Equivariant
from nephros.models.input_spec import Shape
from nephros.models.poster import nephnet2d, poster
from nephros.models.resnet import resnet18, resnet50
from nephros.recipe_parts import Model

MODELS: dict[str, Callable[[Model, Shape], nn.Module]] = {
    "compact": Compact,
    "equivariant": Equivariant,
    "course": Course,
    "poster": poster,
    "nephnet2d": nephnet2d,
    "resnet18": resnet18,
    "resnet50": resnet50,
}


def build(model: Model, shape: Shape) -> nn.Module:
    """Return the network that `model` names, with fresh weights, for data of that shape; UserError for an unknown name."""
    if model.network not in MODELS:
        raise UserError(
            f"--model.network is '{model.network}', but it must be one of {', '.join([*MODELS, *CLASSICAL])}."
            f"{did_you_mean(model.network, [*MODELS, *CLASSICAL])}"
        )
    return MODELS[model.network](model, shape)
