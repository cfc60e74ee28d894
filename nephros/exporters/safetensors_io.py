"""A packaged network as a safetensors file: its tensors and, as metadata, its model configuration, input and card."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from nephros.errors import FileError, NephrosError
from nephros.exporters.inference_module import DISTANCE_BUFFERS, InferenceModule
from nephros.inference.model_card import ModelCard, card_from_json, card_to_json
from nephros.models import build_network
from nephros.models.classifier import Classifier
from nephros.models.input_spec import InputSpec
from nephros.recipe import ModelConfig
from nephros.runs import RunInfo

SAFETENSORS_FORMAT = "nephros-package-2"


def to_safetensors(module: InferenceModule, model: ModelConfig, info: RunInfo, card: ModelCard) -> bytes:
    """Return the bytes of the file."""
    metadata = {
        "format": SAFETENSORS_FORMAT,
        "model": asdict(model),
        "input_spec": info.input_spec,
        "card": card_to_json(card),
    }
    # A single entry, since safetensors writes several in random order, and equal weights shall give equal bytes.
    tensors = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    return bytes(save(tensors, metadata={"nephros": json.dumps(metadata)}))


def load_safetensors(path: Path) -> tuple[InferenceModule, ModelCard]:
    """Return the network, in evaluation mode on the CPU, and its card; FileError if the file is damaged or of another kind."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["nephros"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        if metadata["format"] != SAFETENSORS_FORMAT:
            raise ValueError(metadata["format"])
        card = card_from_json(metadata["card"], path)
        model = ModelConfig(**{**metadata["model"], "hidden": tuple(metadata["model"]["hidden"])})
        input_spec = InputSpec(**metadata["input_spec"])
        network = build_network(model, input_spec)
        classifier = Classifier(network, [0.0] * input_spec.channels, [1.0] * input_spec.channels)
        module = InferenceModule(classifier.eval(), card["network"]["tta_views"])
        module.set_distance_parameters({name: torch.empty_like(tensors[name]) for name in DISTANCE_BUFFERS})
        module.load_state_dict(tensors)
    except NephrosError:
        raise
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError):
        raise FileError(
            path,
            f"{path} is damaged or was not written by nephros: write it again with "
            "`nephros.export(RUN, format='safetensors')`.",
        ) from None
    return module.to(memory_format=torch.channels_last).eval(), card  # type: ignore[call-overload]
