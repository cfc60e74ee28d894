"""A packaged network as a safetensors file: its tensors and, as metadata, its recipe's model, its shape and its card."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from nephros.errors import UserError
from nephros.exporters.inference_module import Packaged
from nephros.inference.model_card import from_text, to_text
from nephros.models import build
from nephros.models.classifier import Classifier
from nephros.models.input_spec import Shape
from nephros.recipe_parts import Model
from nephros.runs import RunInfo

FORMAT = "nephros-package-1"
_FITTED = ("centre", "whitening", "means")


def pack(module: Packaged, model: Model, info: RunInfo, card: dict[str, Any]) -> bytes:
    """Return the file's bytes."""
    about = {"format": FORMAT, "model": asdict(model), "shape": info.shape, "card": to_text(card)}
    # One entry, since the format keeps several in random order, and the same weights shall give the same bytes.
    tensors = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    return bytes(save(tensors, metadata={"nephros": json.dumps(about)}))


def unpack(path: Path) -> tuple[Packaged, dict[str, Any]]:
    """Return the network, in evaluation mode on the CPU, and its card; UserError, naming the file, when it is not such."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["nephros"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        assert about["format"] == FORMAT
        card = from_text(about["card"], str(path))
        model, shape = Model(**{**about["model"], "hidden": tuple(about["model"]["hidden"])}), Shape(**about["shape"])
        classifier = Classifier(build(model, shape), [0.0] * shape.channels, [1.0] * shape.channels)
        module = Packaged(classifier.eval(), card["network"]["views"])
        module.add_distance({name: torch.empty_like(tensors[name]) for name in _FITTED})
        module.load_state_dict(tensors)
    except UserError:
        raise
    except (SafetensorError, OSError, KeyError, AssertionError, TypeError, ValueError, RuntimeError):
        raise UserError(
            f"{path} is damaged or was not written by `nephros export --to safetensors`: export the run again."
        ) from None
    return module.to(memory_format=torch.channels_last).eval(), card  # type: ignore[call-overload]
