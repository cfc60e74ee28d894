"""The bundled models: exported runs that come with nephros, by name, at most 15 MB in all."""

from __future__ import annotations

from pathlib import Path

from nephros.errors import FileError, IncompatibleError
from nephros.files import atomic_write

BUNDLED_MODELS_DIR = Path(__file__).parent / "bundled_models"
"""Folder with a folder of four or five files for each model."""
DEFAULT_MODEL = "nephros-distilled"
"""The model that predicts where no other is named."""
MAX_BUNDLED_BYTES = 15_000_000
"""Size of the files of all models together."""
MAX_FLOAT32_ONNX_BYTES = 4_000_000
"""Size of a float32 ONNX file above which it is left out: then torch predicts in float32, from the weights in safetensors."""


def bundled_names() -> tuple[str, ...]:
    """Return the names of the bundled models, the default one first."""
    names = {file.parent.name for file in BUNDLED_MODELS_DIR.glob("*/card.json")}
    return tuple(sorted(names, key=lambda name: (name != DEFAULT_MODEL, name)))


def bundled_file(file_name: str, model: str = DEFAULT_MODEL) -> Path:
    """Return the path of a model's ``model.onnx``, ``model-int8.onnx``, ``model.safetensors``, ``card.json`` or ``card.md``.

    Raises FileError if it is missing.
    """
    file = BUNDLED_MODELS_DIR / model / file_name
    if not file.is_file():
        raise FileError(
            file, f"This copy of nephros comes without its bundled model {model} ({file} is missing): name a `model`."
        )
    return file


def bundled_float32_file(model: str = DEFAULT_MODEL) -> Path:
    """Return the path of the file that predicts in float32: ``model.onnx``, of large models ``model.safetensors``."""
    has_onnx = (BUNDLED_MODELS_DIR / model / "model.onnx").is_file()
    return bundled_file("model.onnx" if has_onnx else "model.safetensors", model)


def write_bundled_files(model: str, files: dict[str, bytes]) -> Path:
    """Replace the files of one bundled model, content by name, and return their folder.

    Raises IncompatibleError, before anything is written, if all bundled models would be larger than 15 MB together.
    """
    folder = BUNDLED_MODELS_DIR / model
    others = (file for file in BUNDLED_MODELS_DIR.glob("*/*") if file.parent != folder)
    total = sum(map(len, files.values())) + sum(file.stat().st_size for file in others)
    if total > MAX_BUNDLED_BYTES:
        raise IncompatibleError(
            f"With this model the bundled models take {total / 1e6:.1f} MB, and they may take at most "
            f"{MAX_BUNDLED_BYTES / 1e6:.0f} MB: choose a smaller model."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.onnx"):
        if file.name not in files:
            file.unlink()  # of the weights before
    for name, content in files.items():
        with atomic_write(folder / name) as stream:
            stream.write(content)
    return folder
