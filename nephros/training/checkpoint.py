"""A training run's whole state in one file, replaced atomically: after a crash there is the old state or the new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nephros.errors import UserError
from nephros.files import atomic


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state`, made of tensors and plain values."""
    with atomic(path) as file:
        torch.save(state, file)


def load(path: Path) -> dict[str, Any]:
    """Read a state onto the CPU without unpickling code; UserError, naming the file, when it is damaged."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        raise UserError(f"The checkpoint {path} is damaged: start the run again with a new --out.") from None
    return state
