"""Checkpoints: a training run's whole state in one file, replaced atomically, so that a crash leaves the old or the new one."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nephros.files import atomic_write
from nephros.reading import MalformedContent, check_is_file, file_errors
from nephros.training.optimizers import DEVICE_OPTIONS

_ADVICE = "train again with a new `out`"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state`, which holds tensors and plain values."""
    data = to_bytes(state)
    with atomic_write(path) as file:
        file.write(data)


def to_bytes(state: dict[str, Any]) -> bytes:
    """Return the content of the checkpoint file of a state."""
    # Through memory: torch.save to a file on a full disk raises a RuntimeError that doesn't mention the disk.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def load(path: Path) -> dict[str, Any]:
    """Read a state onto the CPU without unpickling code; FileError when the file is damaged."""
    with file_errors(path, _ADVICE, name=f"The checkpoint {path}"):
        check_is_file(path)
        return from_bytes(path.read_bytes(), str(path))


def from_bytes(data: bytes, source: str) -> dict[str, Any]:
    """Return the state that `to_bytes` encoded; FileError, naming `source`, when it is damaged."""
    with file_errors(source, _ADVICE, name=f"The checkpoint {source}"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about formats of other versions
        with zipfile.ZipFile(io.BytesIO(data)) as archive:  # torch ignores the checksums of its own files
            if archive.testzip() is not None:
                raise MalformedContent("a checksum in it is wrong")
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise MalformedContent("it is not a checkpoint of nephros")
        return state


def check_tensors(saved: Any, current: Mapping[str, Tensor], name: str) -> None:
    """Raise MalformedContent unless `saved` has the names, shapes and types of the tensors `current`, and finite values."""
    if not isinstance(saved, dict) or set(saved) != set(current):
        raise MalformedContent(f"'{name}' has other tensors than the recipe's network")
    for key, expected in current.items():
        tensor = saved[key]
        if not isinstance(tensor, Tensor) or tensor.shape != expected.shape or tensor.dtype != expected.dtype:
            raise MalformedContent(f"'{name}.{key}' is not {expected.dtype} {tuple(expected.shape)}")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise MalformedContent(f"'{name}.{key}' holds NaN or infinity")


def check_optimizer_state(saved: Any, optimizer: torch.optim.Optimizer, *, has_stepped: bool) -> None:
    """Raise MalformedContent unless `saved` is the state of such an optimizer of the same parameters.

    torch itself compares only the numbers of parameters, takes over all options, and fails or broadcasts at the next step.
    `has_stepped` says whether there must be a state, unless the optimizer has none.
    """
    current = optimizer.state_dict()
    groups, states = saved["param_groups"], saved["state"]
    for group, expected in zip(groups, current["param_groups"], strict=True):
        for key in (set(group) & set(expected)) - {"lr", *DEVICE_OPTIONS}:
            if repr(group[key]) != repr(expected[key]):
                raise MalformedContent(f"'optimizer.{key}' is not the recipe's")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    keeps_state = any(group.get("momentum", True) or "muon" in group for group in optimizer.param_groups)
    if set(states) != (set(range(len(parameters))) if has_stepped and keeps_state else set()):
        raise MalformedContent("'optimizer.state' is of other parameters")
    for index, state in states.items():
        for key, value in state.items():
            if value is None or isinstance(value, int | float):
                continue
            if value.shape not in (parameters[index].shape, ()) or not value.isfinite().all():
                raise MalformedContent(f"'optimizer.state.{index}.{key}' does not fit its parameter")


def cpu_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of a network's weights and buffers on the CPU."""
    return copy_to_cpu(network.state_dict())


def copy_to_cpu(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of named tensors on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in weights.items()}
