"""Open whatever can answer: the model in the box, an exported file, or a run folder (only the last two kinds need torch)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nephros.errors import NephrosError
from nephros.inference.predictor import Predictor

if TYPE_CHECKING:
    from nephros.runs import RunFolder

Say = Callable[[str], None]


def load_predictor(model: str | Path | None = None, *, say: Say = print) -> Predictor:
    """Return an Engine for an .onnx or .safetensors file that `nephros export` wrote, a run folder, or None for the box.

    A run that was never exported is packaged now, from its data, which takes a minute; the package is kept in the run
    folder. Where the data is not at hand, and for classical baselines, no picture is called unfamiliar. UserError when
    the model can't be opened.
    """
    if model is None:
        return Predictor.from_onnx()
    path = Path(model).expanduser()
    if path.is_dir():
        return _load_from_run(path, say)
    if path.suffix == ".safetensors":
        return _load_from_safetensors(path)
    if not path.exists():
        raise NephrosError(f"--model {path} does not exist: name a run folder or a file that `nephros export` wrote.")
    return Predictor.from_onnx(path)


def _load_from_safetensors(path: Path) -> Predictor:
    from nephros.exporters.packaging import run_module
    from nephros.exporters.safetensors_io import load_safetensors

    module, card = load_safetensors(path)
    return Predictor(lambda cells: run_module(module, cells), card)


def _load_from_run(path: Path, say: Say) -> Predictor:
    from nephros.files import file_digest
    from nephros.runs import RunFolder

    folder = RunFolder.open(path)
    weights = folder.file("weights.safetensors")
    if not weights.is_file():
        raise NephrosError(f"{path} has no weights yet: resume it with `nephros train --resume {path}`.")
    weights_sha256 = file_digest(weights)
    for name in ("model.onnx", "model.safetensors"):
        exported_file = folder.file("export", name)
        with contextlib.suppress(NephrosError):  # a damaged or an older one is made anew
            if (
                exported_file.is_file()
                and (predictor := load_predictor(exported_file)).card["network"]["weights_sha256"] == weights_sha256
            ):
                return predictor
    return _load_unexported_run(folder, say)


def _load_unexported_run(folder: RunFolder, say: Say) -> Predictor:
    from nephros.exporters.export import export
    from nephros.exporters.packaging import probabilities_only
    from nephros.recipe_io import read_recipe

    if read_recipe(folder.file("recipe.yaml")).is_classical:
        return Predictor(*probabilities_only(folder))
    try:
        say(f"{folder.root} was not exported yet: packaging it, once")
        return _load_from_safetensors(export(folder.root, "safetensors", say=say))
    except (NephrosError, OSError) as error:
        say(f"warning: nothing will be called unfamiliar, since the run can't be packaged: {error}")
        return Predictor(*probabilities_only(folder))
