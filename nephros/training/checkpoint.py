"""Checkpoints: a training run's whole state in one file, replaced atomically, so that a crash leaves the old or the new one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nephros.errors import FileError
from nephros.files import atomic_write


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
    return from_bytes(path.read_bytes(), str(path))


def from_bytes(data: bytes, source: str) -> dict[str, Any]:
    """Return the state that `to_bytes` encoded; FileError, naming `source`, when it is damaged."""
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:
        raise FileError(source, f"The checkpoint {source} is damaged: train again with a new `out`.") from None
    return state


def cpu_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of a network's weights and buffers on the CPU."""
    return copy_to_cpu(network.state_dict())


def copy_to_cpu(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of named tensors on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in weights.items()}
