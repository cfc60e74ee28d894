"""Open whatever can answer: the model in the box, an exported file, or a run folder (only the last two kinds need torch)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nephros.errors import UserError
from nephros.inference.predictor import Engine

if TYPE_CHECKING:
    from nephros.runs import RunFolder

Say = Callable[[str], None]


def open_model(model: str | Path | None = None, *, say: Say = print) -> Engine:
    """Return an Engine for an .onnx or .safetensors file that `nephros export` wrote, a run folder, or None for the box.

    A run that was never exported is packaged now, from its data, which takes a minute; the package is kept in the run
    folder. Where the data is not at hand, and for classical baselines, no picture is called unfamiliar. UserError when
    the model can't be opened.
    """
    if model is None:
        return Engine.open()
    path = Path(model).expanduser()
    if path.is_dir():
        return _run(path, say)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if not path.exists():
        raise UserError(f"--model {path} does not exist: name a run folder or a file that `nephros export` wrote.")
    return Engine.open(path)


def _safetensors(path: Path) -> Engine:
    from nephros.exporters.packaging import run_module
    from nephros.exporters.safetensors_io import unpack

    module, card = unpack(path)
    return Engine(lambda cells: run_module(module, cells), card)


def _run(path: Path, say: Say) -> Engine:
    from nephros.files import digest
    from nephros.runs import RunFolder

    folder = RunFolder.open(path)
    weights = folder.file("weights.safetensors")
    if not weights.is_file():
        raise UserError(f"{path} has no weights yet: resume it with `nephros train --resume {path}`.")
    now = digest(weights)
    for name in ("model.onnx", "model.safetensors"):
        exported = folder.file("export", name)
        with contextlib.suppress(UserError):  # a damaged or an older one is made anew
            if exported.is_file() and (engine := open_model(exported)).card["network"]["weights_sha256"] == now:
                return engine
    return _packaged(folder, say)


def _packaged(folder: RunFolder, say: Say) -> Engine:
    from nephros.exporters.export import export
    from nephros.exporters.packaging import bare
    from nephros.recipe_io import read

    if read(folder.file("recipe.yaml")).classical:
        return Engine(*bare(folder))
    try:
        say(f"{folder.root} was not exported yet: packaging it, once")
        return _safetensors(export(folder.root, "safetensors", say=say))
    except (UserError, OSError) as error:
        say(f"warning: nothing will be called unfamiliar, since the run can't be packaged: {error}")
        return Engine(*bare(folder))
