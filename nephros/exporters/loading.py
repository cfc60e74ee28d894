"""Open any model that can predict: a bundled one, an exported file, or a run folder (torch only where it is needed)."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from nephros.errors import FileError, IncompleteError, NephrosError, UnknownName
from nephros.inference.bundled import bundled_file
from nephros.inference.model_names import BUNDLED, bundled_model_name, pretrained_names
from nephros.inference.predictor import Predictor

if TYPE_CHECKING:
    from nephros.runs import RunFolder

logger = logging.getLogger(__name__)


def load_classifier(model: str | Path | None = None) -> Predictor:
    """Return a classifier of cells: of a name, an exported file, a run folder or, without `model`, the default.

    Args:
        model: a name of `nephros.list_models(pretrained=True)`, an .onnx or .safetensors file that `nephros.export` wrote, a run
            folder, or None. Bundled models and .onnx files need no torch.

    A run folder without an exported model is packaged in memory from its data, which takes about a minute each time;
    `nephros.export` stores the result. Without its data, and for classical baselines, no cell is flagged as out of
    distribution. Nothing is written. Raises a NephrosError if the model can't be opened.
    """
    model = BUNDLED if model is None else model
    if bundled := bundled_model_name(str(model)):
        return Predictor.from_onnx(bundled_file("model.onnx", bundled))
    path = Path(model).expanduser()
    if path.is_dir():
        return _load_from_run(path)
    if not path.exists() and not path.suffix and path.name == str(model):
        names = pretrained_names()
        hint = f"Choose {', '.join(names)}, a run folder, or a file that `nephros.export(RUN)` wrote."
        raise UnknownName("model", str(model), names, kind="model or file", hint=hint)
    if not path.exists():
        raise FileError(
            path, f"The model {path} does not exist: name a run folder or a file that `nephros.export(RUN)` wrote."
        )
    if path.suffix == ".safetensors":
        return _load_from_safetensors(path)
    return Predictor.from_onnx(path)


def _load_from_safetensors(path: Path) -> Predictor:
    from nephros.exporters.packaging import run_module
    from nephros.exporters.safetensors_io import load_safetensors

    module, card = load_safetensors(path)
    return Predictor(lambda cells: run_module(module, cells), card).checked(path)


def _load_from_run(path: Path) -> Predictor:
    from nephros.files import file_digest
    from nephros.runs import RunFolder

    folder = RunFolder.open(path)
    weights = folder.file("weights.safetensors")
    if not weights.is_file():
        raise IncompleteError(f"{path} has no weights yet: finish it with `nephros.resume({str(path)!r})`.")
    weights_sha256 = file_digest(weights)
    for name in ("model.onnx", "model.safetensors"):
        exported_file = folder.file("export", name)
        with contextlib.suppress(NephrosError):  # a damaged or outdated file counts as missing
            if (
                exported_file.is_file()
                and (predictor := load_classifier(exported_file)).card["network"]["weights_sha256"] == weights_sha256
            ):
                return predictor
    return _load_unexported_run(folder)


def _load_unexported_run(folder: RunFolder) -> Predictor:
    from nephros.evaluation.scoring import load_run_model
    from nephros.exporters.packaging import build_export_bundle, probabilities_only, run_module

    load_run_model(folder)  # before anything is said of packaging it

    if folder.recipe().is_classical:
        return Predictor(*probabilities_only(folder)).checked(folder.root)
    logger.info(
        "%s has no exported model: packaging it in memory (`nephros.export(%r)` does so once)",
        folder.root,
        str(folder.root),
    )
    try:
        bundle = build_export_bundle(folder)
    except (NephrosError, OSError) as error:
        logger.warning(
            "No cell will be flagged as out of distribution, because the run can't be packaged: %s `nephros.export(%r, "
            "data=DATA)` packages it with its data wherever that is.",
            error,
            str(folder.root),
        )
        return Predictor(*probabilities_only(folder)).checked(folder.root)
    module = bundle.module
    card = bundle.build_card(lambda cells: run_module(module, cells))
    return Predictor(lambda cells: run_module(module, cells), card).checked(folder.root)
