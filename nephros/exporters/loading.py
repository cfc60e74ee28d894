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


def load_classifier(model: str | Path | None = None, *, device: str = "cpu", threads: int = 0) -> Predictor:
    """Return a classifier of cells: of a name, an exported file, a run folder or, without `model`, the default.

    Args:
        model: a name of `nephros.list_models(pretrained=True)`, an .onnx or .safetensors file that `nephros.export` wrote, a run
            folder, or None. Bundled models and .onnx files need no torch.
        device: cpu, cuda or auto. An .onnx file needs ONNX Runtime with its CUDA provider (onnxruntime-gpu) for a GPU, any other
            model a build of torch for it.
        threads: of an .onnx file, CPU threads per call; 0 takes the environment variable OMP_NUM_THREADS, else all cores.

    A run folder without an exported model is packaged in memory from its data, which takes about a minute each time;
    `nephros.export` stores the result. Without its data, and for classical baselines, no cell is flagged as out of
    distribution. Nothing is written. Raises a NephrosError if the model can't be opened.
    """
    model = BUNDLED if model is None else model
    if bundled := bundled_model_name(str(model)):
        return Predictor.from_onnx(bundled_file("model.onnx", bundled), device=device, threads=threads)
    path = Path(model).expanduser()
    if path.is_dir():
        return _load_from_run(path, device, threads)
    if not path.exists() and not path.suffix and path.name == str(model):
        names = pretrained_names()
        hint = f"Choose {', '.join(names)}, a run folder, or a file that `nephros.export(RUN)` wrote."
        raise UnknownName("model", str(model), names, kind="model or file", hint=hint)
    if not path.exists():
        raise FileError(
            path, f"The model {path} does not exist: name a run folder or a file that `nephros.export(RUN)` wrote."
        )
    if path.suffix == ".safetensors":
        return _load_from_safetensors(path, device)
    return Predictor.from_onnx(path, device=device, threads=threads)


def _load_from_safetensors(path: Path, device: str) -> Predictor:
    from nephros.device import resolve_device
    from nephros.exporters.packaging import run_module
    from nephros.exporters.safetensors_io import load_safetensors

    torch_device = resolve_device(device)
    module, card = load_safetensors(path)
    module.to(torch_device)
    return Predictor(lambda cells: run_module(module, cells), card).checked(path)


def _load_from_run(path: Path, device: str, threads: int) -> Predictor:
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
                if device == "cpu" and not threads:
                    return predictor
                return load_classifier(exported_file, device=device, threads=threads)
    return _load_unexported_run(folder, device)


def _load_unexported_run(folder: RunFolder, device: str) -> Predictor:
    from nephros.device import resolve_device
    from nephros.evaluation.scoring import load_run_model
    from nephros.exporters.packaging import build_export_bundle, probabilities_only, run_module

    torch_device = resolve_device(device)
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
    module.to(torch_device)
    return Predictor(lambda cells: run_module(module, cells), card).checked(folder.root)
