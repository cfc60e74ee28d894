"""A trained classifier as a safetensors file: weights, normalisation and, as metadata, all that is needed to build it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from nephros.errors import UserError
from nephros.files import atomic
from nephros.models import build
from nephros.models.classical import CLASSICAL
from nephros.models.classifier import Classifier
from nephros.models.input_spec import Shape
from nephros.recipe_parts import Model

FORMAT = "nephros-1"


def save_model(
    path: Path, weights: dict[str, Tensor], model: Model, shape: Shape, class_names: tuple[str, ...]
) -> None:
    """Write a Classifier's state, all or nothing."""
    about = {"format": FORMAT, "model": asdict(model), "shape": asdict(shape), "class_names": class_names}
    # One entry, since the format keeps several in random order, and the same weights shall give the same bytes.
    metadata = {"nephros": json.dumps(about)}
    with atomic(path) as file:
        file.write(save({name: value.contiguous() for name, value in weights.items()}, metadata=metadata))


def load_model(path: Path) -> tuple[Classifier, tuple[str, ...]]:
    """Return the Classifier in a file, on the CPU and in evaluation mode, and its class names.

    Raises UserError, naming the file, when it is missing, damaged or not ours.
    """
    if not path.is_file():
        raise UserError(
            f"The weights {path} are missing: the run may not be over; resume it with `nephros train --resume`."
        )
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["nephros"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        assert about["format"] == FORMAT
        model = Model(**{**about["model"], "hidden": tuple(about["model"]["hidden"])})
        shape = Shape(**about["shape"])
        classifier = Classifier(_network(model, shape, weights), [0.0] * shape.channels, [1.0] * shape.channels)
        classifier.load_state_dict(weights)
        classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return classifier.eval(), tuple(about["class_names"])
    except (SafetensorError, OSError, KeyError, AssertionError, TypeError, ValueError, RuntimeError):
        raise UserError(f"The weights {path} are damaged or not nephros's: train again, or name another run.") from None


def _network(model: Model, shape: Shape, weights: dict[str, Tensor]) -> nn.Module:
    """Return what the weights fit: a classical baseline is as large as the data that it learnt from."""
    if model.network not in CLASSICAL:
        return build(model, shape)
    inner = "network."
    own = {name.removeprefix(inner): tensor for name, tensor in weights.items() if name.startswith(inner)}
    return CLASSICAL[model.network](own)
