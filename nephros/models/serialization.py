"""Trained classifiers as safetensors files: weights, normalization, and as metadata all that is needed to build the network."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nephros.data.class_names import class_name_fault
from nephros.errors import DivergedError, FileError
from nephros.files import atomic_write
from nephros.models import build_network
from nephros.models.classical import CLASSICAL_MODELS
from nephros.models.classifier import Classifier, InputSpec, to_channels_last
from nephros.reading import MAX_JSON_BYTES, MalformedContent, decode, file_errors, parse_json
from nephros.recipe import ModelConfig

FORMAT = "nephros-2"
_MAX_ALLOCATION_FACTOR = 32
"""Values that building a network may allocate in passing, per stored value: an equivariant layer takes eight for one."""


@dataclass(frozen=True)
class StoredNetwork:
    """The tensors of a network, with what is needed to build it."""

    tensors: dict[str, Tensor]
    model: ModelConfig
    input_spec: InputSpec
    header: dict[str, Any]
    """All metadata of the file as plain JSON values."""


def serialize(
    tensors: Mapping[str, Tensor], format: str, model: ModelConfig, input_spec: InputSpec, **metadata: Any
) -> bytes:
    """Return a safetensors file; `metadata`, plain JSON values, join its header."""
    header = {"format": format, "model": asdict(model), "input_spec": input_spec.to_dict(), **metadata}
    # A single entry: safetensors writes several in random order, but the same weights must give the same bytes.
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return bytes(save(contiguous, metadata={"nephros": json.dumps(header)}))


def file_format(path: Path) -> str:
    """Return the format of a file that `serialize` made; for any other file raises whatever its parsers do."""
    with safe_open(path, framework="pt") as file:
        return str(_read_header(file)["format"])


def deserialize(path: Path, format: str) -> StoredNetwork:
    """Read what `serialize` made; for a damaged file or another format raises MalformedContent or whatever its parsers do."""
    with safe_open(path, framework="pt") as file:
        header = _read_header(file)
        if header.get("format") != format:
            raise MalformedContent(f"its format is not {format}, which this version reads")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is not a mapping
    model, input_spec = (
        decode(ModelConfig, header["model"], "model"),
        decode(InputSpec, header["input_spec"], "input_spec"),
    )
    return StoredNetwork(tensors, model, input_spec, header)


def _read_header(file: Any) -> dict[str, Any]:
    text = (file.metadata() or {}).get("nephros")
    header = None if text is None or len(text) > MAX_JSON_BYTES else parse_json(text)
    if not isinstance(header, dict):
        raise MalformedContent("it was not written by nephros")
    return header


def save_model(
    path: Path, weights: dict[str, Tensor], config: ModelConfig, spec: InputSpec, class_names: tuple[str, ...]
) -> None:
    """Write the state of a Classifier atomically."""
    with atomic_write(path) as file:
        file.write(serialize(weights, FORMAT, config, spec, class_names=class_names))


def load_model(path: Path) -> tuple[Classifier, tuple[str, ...]]:
    """Return the Classifier in a file, on the CPU and in evaluation mode, and its class names.

    Raises FileError when the file is missing, damaged or not written by `save_model`, and DivergedError when a network's
    weights are not finite.
    """
    if not path.is_file():
        raise FileError(
            path,
            f"The weights {path} are missing; if the run is not complete, resume it: `nephros.resume({str(path.parent)!r})`.",
        )
    with file_errors(path, "train again, or choose another run", name=f"The weights file {path}"):
        stored = deserialize(path, FORMAT)
        classifier = build_stored_classifier(stored)
        load_tensors(classifier, stored.tensors)
        to_channels_last(classifier)
        if not (classifier.std > 0).all():
            raise MalformedContent("'std' is not above 0")
        class_names = tuple(decode(list[str], stored.header["class_names"], "class_names"))
        if fault := class_name_fault(class_names):
            raise MalformedContent(fault)
        if len(class_names) != stored.input_spec.n_classes:
            raise MalformedContent(f"it names {len(class_names)} classes for {stored.input_spec.n_classes} outputs")
    if stored.model.network not in CLASSICAL_MODELS and not has_finite_values(stored.tensors):
        raise DivergedError(f"The weights {path} are not finite, so the training diverged: train again.")
    return classifier.eval(), class_names


def build_stored_classifier(stored: StoredNetwork) -> Classifier:
    """Return the classifier that a file's header describes, with initial weights.

    Raises MalformedContent, before it takes memory, where the header claims a larger network than the file's tensors are.
    """
    n_channels, n_planes = stored.input_spec.channels, stored.input_spec.planes
    n_layers = max(stored.model.depth, len(stored.model.hidden))
    if n_channels not in (1, 3) or n_planes < 1 or n_layers > len(stored.tensors):
        raise MalformedContent(
            f"it claims {n_channels} channels and {n_layers:,} layers in {len(stored.tensors):,} tensors"
        )
    with AllocationLimit(_MAX_ALLOCATION_FACTOR * sum(tensor.numel() for tensor in stored.tensors.values())):
        return Classifier(_build_for_weights(stored), [0.0] * n_planes, [1.0] * n_planes)


class AllocationLimit(TorchFunctionMode):
    """Within the block, raises MalformedContent before all new tensors together have more than `max_values` values."""

    def __init__(self, max_values: int) -> None:
        super().__init__()
        self._n_left = max_values

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (torch.empty, torch.zeros, torch.ones):
            size = kwargs["size"] if kwargs and "size" in kwargs else args
            self._n_left -= math.prod(size[0] if size and not isinstance(size[0], int) else size)
            if self._n_left < 0:
                raise MalformedContent("it takes more memory than there is for it")
        return func(*args, **(kwargs or {}))


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a module the tensors of a file; MalformedContent unless they have its names, shapes and types."""
    expected = module.state_dict()
    if missing := sorted(set(expected) ^ set(tensors)):
        raise MalformedContent(f"its tensors are not those of its network, see {missing[0]}")
    for name, tensor in expected.items():
        if tensors[name].shape != tensor.shape or tensors[name].dtype != tensor.dtype:
            raise MalformedContent(f"'{name}' is not {tensor.dtype} {tuple(tensor.shape)}")
    module.load_state_dict(tensors)


def has_finite_values(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether no floating-point value of the tensors is NaN or infinite."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors.values() if tensor.is_floating_point())


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors on the CPU, with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _build_for_weights(stored: StoredNetwork) -> nn.Module:
    """Return a network that the weights fit: the size of a classical baseline depends on its training data."""
    if stored.model.network not in CLASSICAL_MODELS:
        return build_network(stored.model, stored.input_spec)
    prefix = "network."
    tensors = {name.removeprefix(prefix): tensor for name, tensor in stored.tensors.items() if name.startswith(prefix)}
    return CLASSICAL_MODELS[stored.model.network](tensors)
