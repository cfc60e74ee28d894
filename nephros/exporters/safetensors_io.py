"""A packaged network as a safetensors file: its tensors and, as metadata, its model configuration, input and card."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from nephros.errors import DivergedError
from nephros.exporters.inference_module import DISTANCE_BUFFERS, InferenceModule
from nephros.inference.card_json import card_from_json, card_to_json
from nephros.inference.model_card import ModelCard
from nephros.models.classifier import InputSpec, to_channels_last
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
    input_spec = _input_spec(card)
    tensors = module.state_dict()
    digest = tensors_sha256(tensors)
    return serialize(tensors, SAFETENSORS_FORMAT, model, input_spec, card=card_to_json(card), **{DIGEST_KEY: digest})


def _input_spec(card: ModelCard) -> InputSpec:
    """Return the inputs of the card's network."""
    cells = card["input"]
    return InputSpec(cells["channels"], cells["height"], cells["width"], len(card["class_names"]), cells.get("depth"))


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
        if _input_spec(card) != stored.input_spec:
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
    return to_channels_last(module).eval(), card
