"""A packaged network as a safetensors file: its tensors and, as metadata, its model configuration, input and card."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from nephros.errors import DivergedError
from nephros.exporters.inference_module import DISTANCE_BUFFERS, InferenceModule
from nephros.inference.card_json import card_from_json, card_to_json
from nephros.inference.model_card import ModelCard
from nephros.models.classifier import InputSpec
from nephros.models.serialization import (
    build_stored_classifier,
    deserialize,
    has_finite_values,
    load_tensors,
    serialize,
    tensors_sha256,
)
from nephros.reading import MalformedContent, file_errors
from nephros.recipe import ModelConfig

SAFETENSORS_FORMAT = "nephros-package-2"
DIGEST_KEY = "tensors_sha256"
"""Key of the tensors' digest in the header; files written before it was stored lack it."""


def to_safetensors(module: InferenceModule, model: ModelConfig, card: ModelCard) -> bytes:
    """Return the bytes of the file."""
    cells = card["input"]
    input_spec = InputSpec(cells["channels"], cells["height"], cells["width"], len(card["class_names"]))
    tensors = module.state_dict()
    digest = tensors_sha256(tensors)
    return serialize(tensors, SAFETENSORS_FORMAT, model, input_spec, card=card_to_json(card), **{DIGEST_KEY: digest})


def load_safetensors(path: Path) -> tuple[InferenceModule, ModelCard]:
    """Return the network, in evaluation mode on the CPU, and its card.

    Raises FileError if the file is damaged, its tensors don't have the digest that it states, or it is of another kind, and
    DivergedError if its weights are not finite.
    """
    with file_errors(path, "write it again with `nephros.export(RUN, format='safetensors')`"):
        stored = deserialize(path, SAFETENSORS_FORMAT)
        if stored.header.get(DIGEST_KEY) not in (None, tensors_sha256(stored.tensors)):
            raise MalformedContent("it has changed since it was exported")
        card = card_from_json(stored.header["card"], path)
        cells = card["input"]
        described = InputSpec(cells["channels"], cells["height"], cells["width"], len(card["class_names"]))
        if described != stored.input_spec:
            raise MalformedContent("its network takes other cells, or tells other classes apart, than its card says")
        module = InferenceModule(build_stored_classifier(stored).eval(), card["network"]["tta_views"])
        n_classes, n_features = module.head.weight.shape
        shapes = ((n_features,), (n_features, n_features), (n_classes, n_features))
        module.set_distance_parameters(
            {name: torch.empty(shape) for name, shape in zip(DISTANCE_BUFFERS, shapes, strict=True)}
        )
        load_tensors(module, stored.tensors)
        if not math.isclose(float(module.temperature), card["calibration"]["temperature"], rel_tol=1e-5):
            raise MalformedContent("its temperature is not that of its card")
    if not has_finite_values(stored.tensors):
        raise DivergedError(f"The weights in {path} are not finite: export another run.")
    return module.to(memory_format=torch.channels_last).eval(), card  # type: ignore[call-overload]
