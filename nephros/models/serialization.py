"""Trained classifiers as safetensors files: weights, normalization, and as metadata all that is needed to build the network."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from nephros.errors import FileError
from nephros.files import atomic_write
from nephros.models import build_network
from nephros.models.classical import CLASSICAL_MODELS
from nephros.models.classifier import Classifier
from nephros.models.input_spec import InputSpec
from nephros.recipe import ModelConfig

FORMAT = "nephros-2"


def save_model(
    path: Path, weights: dict[str, Tensor], config: ModelConfig, spec: InputSpec, class_names: tuple[str, ...]
) -> None:
    """Write the state of a Classifier atomically."""
    header = {"format": FORMAT, "model": asdict(config), "input_spec": asdict(spec), "class_names": class_names}
    # A single entry: safetensors writes several in random order, but the same weights must give the same bytes.
    metadata = {"nephros": json.dumps(header)}
    with atomic_write(path) as file:
        file.write(save({name: value.contiguous() for name, value in weights.items()}, metadata=metadata))


def load_model(path: Path) -> tuple[Classifier, tuple[str, ...]]:
    """Return the Classifier in a file, on the CPU and in evaluation mode, and its class names.

    Raises FileError when the file is missing, damaged or not written by `save_model`.
    """
    if not path.is_file():
        raise FileError(
            path,
            f"The weights {path} are missing; if the run is not complete, resume it: `nephros.resume({str(path.parent)!r})`.",
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["nephros"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        assert header["format"] == FORMAT
        config = ModelConfig(**{**header["model"], "hidden": tuple(header["model"]["hidden"])})
        spec = InputSpec(**header["input_spec"])
        classifier = Classifier(_build_for_weights(config, spec, weights), [0.0] * spec.channels, [1.0] * spec.channels)
        classifier.load_state_dict(weights)
        classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return classifier.eval(), tuple(header["class_names"])
    except (SafetensorError, OSError, KeyError, AssertionError, TypeError, ValueError, RuntimeError):
        raise FileError(
            path, f"The weights {path} are damaged or were not written by nephros: train again, or choose another run."
        ) from None


def _build_for_weights(config: ModelConfig, spec: InputSpec, weights: dict[str, Tensor]) -> nn.Module:
    """Return a network that the weights fit: the size of a classical baseline depends on its training data."""
    if config.network not in CLASSICAL_MODELS:
        return build_network(config, spec)
    prefix = "network."
    tensors = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    return CLASSICAL_MODELS[config.network](tensors)
