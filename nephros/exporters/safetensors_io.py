"""A packaged network as a safetensors file: its tensors and, as metadata, its recipe's model, its shape and its card."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from nephros.errors import NephrosError
from nephros.exporters.inference_module import InferenceModule
from nephros.inference.model_card import card_from_json, card_to_json
from nephros.models import build_network
from nephros.models.classifier import Classifier
from nephros.models.input_spec import InputSpec
from nephros.recipe_parts import ModelConfig
from nephros.runs import RunInfo

SAFETENSORS_FORMAT = "nephros-package-2"
_DISTANCE_BUFFERS = ("feature_mean", "whitening", "class_means")


def to_safetensors(module: InferenceModule, model: ModelConfig, info: RunInfo, card: dict[str, Any]) -> bytes:
    """Return the file's bytes."""
    metadata = {
        "format": SAFETENSORS_FORMAT,
        "model": asdict(model),
        "input_spec": info.input_spec,
        "card": card_to_json(card),
    }
    # One entry, since the format keeps several in random order, and the same weights shall give the same bytes.
    tensors = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    return bytes(save(tensors, metadata={"nephros": json.dumps(metadata)}))


def load_safetensors(path: Path) -> tuple[InferenceModule, dict[str, Any]]:
    """Return the network, in evaluation mode on the CPU, and its card; UserError, naming the file, when it is not such."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["nephros"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        assert metadata["format"] == SAFETENSORS_FORMAT
        card = card_from_json(metadata["card"], str(path))
        model, shape = (
            ModelConfig(**{**metadata["model"], "hidden": tuple(metadata["model"]["hidden"])}),
            InputSpec(**metadata["input_spec"]),
        )
        classifier = Classifier(build_network(model, shape), [0.0] * shape.channels, [1.0] * shape.channels)
        module = InferenceModule(classifier.eval(), card["network"]["tta_views"])
        module.set_distance_parameters({name: torch.empty_like(tensors[name]) for name in _DISTANCE_BUFFERS})
        module.load_state_dict(tensors)
    except NephrosError:
        raise
    except (SafetensorError, OSError, KeyError, AssertionError, TypeError, ValueError, RuntimeError):
        raise NephrosError(
            f"{path} is damaged or was not written by `nephros export --format safetensors`: export the run again."
        ) from None
    return module.to(memory_format=torch.channels_last).eval(), card  # type: ignore[call-overload]
