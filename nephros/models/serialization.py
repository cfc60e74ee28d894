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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nephros.data.dataset import class_name_fault
from nephros.errors import DivergedError, FileError
from nephros.files import atomic_write
from nephros.models import build_network
from nephros.models.classical import CLASSICAL_MODELS
from nephros.models.classifier import Classifier, InputSpec
from nephros.recipe import ModelConfig

FORMAT = "nephros-2"
_MAX_ALLOCATION_FACTOR = 32
"""Values that building a network may allocate in passing, per stored value: an equivariant layer takes eight for one."""
READ_ERRORS = (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError)
"""What reading a damaged file, or building a network from it, raises."""


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
    header = {"format": format, "model": asdict(model), "input_spec": asdict(input_spec), **metadata}
    # A single entry: safetensors writes several in random order, but the same weights must give the same bytes.
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return bytes(save(contiguous, metadata={"nephros": json.dumps(header)}))


def file_format(path: Path) -> str:
    """Return the format of a file that `serialize` made; raises one of READ_ERRORS for any other file."""
    with safe_open(path, framework="pt") as file:
        return str(json.loads((file.metadata() or {})["nephros"])["format"])


def deserialize(path: Path, format: str) -> StoredNetwork:
    """Read what `serialize` made; raises one of READ_ERRORS for a damaged file or another format."""
    with safe_open(path, framework="pt") as file:
        header = json.loads((file.metadata() or {})["nephros"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
    if header["format"] != format:
        raise ValueError(f"format {header['format']}")
    model = ModelConfig(**{**header["model"], "hidden": tuple(header["model"]["hidden"])})
    return StoredNetwork(tensors, model, InputSpec(**header["input_spec"]), header)


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
    try:
        stored = deserialize(path, FORMAT)
        classifier = build_stored_classifier(stored)
        classifier.load_state_dict(stored.tensors)
        classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        class_names = tuple(stored.header["class_names"])
        if fault := class_name_fault(class_names):
            raise ValueError(fault)
    except READ_ERRORS:
        raise FileError(
            path, f"The weights {path} are damaged or were not written by nephros: train again, or choose another run."
        ) from None
    if stored.model.network not in CLASSICAL_MODELS and not has_finite_values(stored.tensors):
        raise DivergedError(f"The weights {path} are not finite, so the training diverged: train again.")
    return classifier.eval(), class_names


def build_stored_classifier(stored: StoredNetwork) -> Classifier:
    """Return the classifier that a file's header describes, with initial weights.

    Raises ValueError, before it takes memory, where the header claims a larger network than the file's tensors are.
    """
    n_channels = stored.input_spec.channels
    n_layers = max(stored.model.depth, len(stored.model.hidden))
    if n_channels not in (1, 3) or n_layers > len(stored.tensors):
        raise ValueError(f"{n_channels} channels, {n_layers:,} layers in {len(stored.tensors):,} tensors")
    with _AllocationLimit(_MAX_ALLOCATION_FACTOR * sum(tensor.numel() for tensor in stored.tensors.values())):
        return Classifier(_build_for_weights(stored), [0.0] * n_channels, [1.0] * n_channels)


class _AllocationLimit(TorchFunctionMode):
    """Within the block, raises ValueError before all new tensors together have more than `max_values` values."""

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
                raise ValueError("more values claimed than stored")
        return func(*args, **(kwargs or {}))


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
