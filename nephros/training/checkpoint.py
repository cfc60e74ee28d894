"""A training run's whole state in one file, replaced atomically: after a crash there is the old state or the new one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from nephros.errors import NephrosError
from nephros.files import atomic_write


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state`, made of tensors and plain values."""
    data = to_bytes(state)
    with atomic_write(path) as file:
        file.write(data)


def to_bytes(state: dict[str, Any]) -> bytes:
    """Return what a checkpoint file holds."""
    # Through memory: torch.save into a file on a full disk raises a RuntimeError that says nothing of the disk.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def load(path: Path) -> dict[str, Any]:
    """Read a state onto the CPU without unpickling code; UserError, naming the file, when it is damaged."""
    return from_bytes(path.read_bytes(), str(path))


def from_bytes(data: bytes, source: str) -> dict[str, Any]:
    """Return the state that `pack` packed; UserError, naming it, when it is damaged."""
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:
        raise NephrosError(f"The checkpoint {source} is damaged: start the run again with a new --out.") from None
    return state
