"""The bundled model: an exported run that comes with nephros, at most 10 MB in all."""

from __future__ import annotations

from pathlib import Path

from nephros.errors import FileError, IncompatibleError
from nephros.files import atomic_write

BUNDLED_MODEL_DIR = Path(__file__).parent / "bundled_model"
MAX_BUNDLED_BYTES = 10_000_000
"""Size of all files together."""


def bundled_file(name: str) -> Path:
    """Return the path of ``model.onnx``, ``model.safetensors``, ``card.json`` or ``card.md``; FileError if it is missing."""
    file = BUNDLED_MODEL_DIR / name
    if not file.is_file():
        raise FileError(
            file, f"This copy of nephros comes without its bundled model ({file} is missing): name a `model`."
        )
    return file


def write_bundled_files(files: dict[str, bytes]) -> Path:
    """Replace the files of the bundled model, content by name, and return their folder.

    Raises IncompatibleError, before anything is written, if they are larger than 10 MB together.
    """
    total = sum(map(len, files.values()))
    if total > MAX_BUNDLED_BYTES:
        raise IncompatibleError(
            f"The model's files take {total / 1e6:.1f} MB, but the bundled model may take at most "
            f"{MAX_BUNDLED_BYTES / 1e6:.0f} MB: choose a smaller model."
        )
    for name, content in files.items():
        with atomic_write(BUNDLED_MODEL_DIR / name) as file:
            file.write(content)
    return BUNDLED_MODEL_DIR
