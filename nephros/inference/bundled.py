"""The model that comes with nephros: an exported run in the package, of at most 10 MB in all."""

from __future__ import annotations

from pathlib import Path

from nephros.errors import NephrosError
from nephros.files import atomic_write

BUNDLED_MODEL_DIR = Path(__file__).parent / "bundled_model"
MAX_BUNDLED_BYTES = 10_000_000
"""Bytes of all files together."""


def bundled_file(name: str) -> Path:
    """Return the path of ``model.onnx``, ``model.safetensors``, ``card.json`` or ``card.md``; UserError where it is not there."""
    file = BUNDLED_MODEL_DIR / name
    if not file.is_file():
        raise NephrosError("This copy of nephros has no model in the box: name one with --model.")
    return file


def write_bundled_files(files: dict[str, bytes]) -> Path:
    """Write all files of the box and return its folder; UserError, and nothing written, when they are over 10 MB."""
    total = sum(map(len, files.values()))
    if total > MAX_BUNDLED_BYTES:
        raise NephrosError(
            f"The model takes {total / 1e6:.1f} MB in the box, above {MAX_BUNDLED_BYTES / 1e6:.0f}: box a smaller one."
        )
    for name, content in files.items():
        with atomic_write(BUNDLED_MODEL_DIR / name) as file:
            file.write(content)
    return BUNDLED_MODEL_DIR
