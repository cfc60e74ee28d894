"""Open any model that can predict: a bundled one, an exported file, or a run folder (torch only where it is needed)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nephros.errors import (
    DivergedError,
    FileError,
    IncompatibleError,
    IncompleteError,
    InvalidArgument,
    NephrosError,
    UnknownName,
)
from nephros.inference.bundled import DEFAULT_MODEL, bundled_float32_file
from nephros.inference.model_names import BUNDLED, bundled_model_name, pretrained_names
from nephros.inference.onnx_session import uses_gpu
from nephros.inference.precision import MIN_SPEEDUP, has_int8_instructions, loses_little, resolve_precision
from nephros.inference.predictor import Predictor
from nephros.inference.runtimes import DEFAULT_RUNTIME, check_runtime

if TYPE_CHECKING:
    from nephros.runs import RunFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Options:
    """How a model is opened."""

    device: str
    threads: int
    tta: bool
    precision: str
    runtime: str


def load_classifier(
    model: str | Path | None = None,
    *,
    device: str = "cpu",
    threads: int = 0,
    tta: bool = False,
    precision: str = "auto",
    runtime: str = DEFAULT_RUNTIME,
) -> Predictor:
    """Return a classifier of cells: of a name, an exported file, a run folder or, without `model`, the default.

    Args:
        model: a name of `nephros.list_models(pretrained=True)`, an .onnx or .safetensors file that `nephros.export` wrote, a run
            folder, or None. Bundled models and .onnx files need no torch, except nephros-large unless `precision` is int8.
        device: cpu, cuda or auto. An .onnx file needs ONNX Runtime with its CUDA provider (onnxruntime-gpu) for a GPU, any other
            model a build of torch for it.
        threads: of an .onnx file, CPU threads per call; 0 takes the environment variable OMP_NUM_THREADS, else all cores.
        tta: predict with test-time augmentation, as `Predictor.with_tta` does.
        precision: float32, int8 or auto. Of a bundled model or a run that was exported in both, auto takes int8 on a CPU with
            instructions for it, if it is faster there, which is measured in some tens of milliseconds (and assumed of
            nephros-large), and loses at most 0.001 of accuracy on validation; else float32. Then predictions differ slightly
            between processors: name a precision for the same ones everywhere, here or in the environment variable
            NEPHROS_PRECISION. `Predictor.card` and predictions say which it was.
        runtime: of an .onnx file, onnxruntime or openvino (the extra ``nephros[openvino]``, on CPUs and in float32).

    A run folder without an exported model is packaged from its data, which takes about a minute, and keeps the result as
    export/model.safetensors if it can be written; an .onnx file, which `nephros.export` writes, predicts faster. Without the
    run's data, and for classical baselines, no cell is flagged as out of distribution. Raises a NephrosError if the model can't
    be opened.
    """
    check_runtime(runtime, device)
    predictor = _open(model, _Options(device, threads, tta, resolve_precision(precision), runtime))
    actual = predictor.card["network"]["precision"]
    if precision not in ("auto", actual):
        call = "nephros.export(RUN, int8=True)" if precision == "int8" else "nephros.export(RUN)"
        hint = f"`{call}` writes a file in {precision}."
        raise InvalidArgument("precision", precision, f"{actual} or auto for {model or DEFAULT_MODEL}", hint=hint)
    return predictor.with_tta() if tta else predictor


def _open(model: str | Path | None, options: _Options) -> Predictor:
    model = BUNDLED if model is None else model
    if bundled := bundled_model_name(str(model)):
        float32_file = bundled_float32_file(bundled)
        int8_file = float32_file.with_name("model-int8.onnx")
        is_large = float32_file.suffix == ".safetensors"
        return (_open_large if is_large else _open_precision)(float32_file, int8_file, options)
    path = Path(model).expanduser()
    if path.is_dir():
        return _load_from_run(path, options)
    if not path.exists() and not path.suffix and path.name == str(model):
        names = pretrained_names()
        hint = f"Choose {', '.join(names)}, a run folder, or a file that `nephros.export(RUN)` wrote."
        raise UnknownName("model", str(model), names, kind="model or file", hint=hint)
    if not path.exists():
        raise FileError(
            path, f"The model {path} does not exist: name a run folder or a file that `nephros.export(RUN)` wrote."
        )
    if path.suffix == ".safetensors":
        return _load_from_safetensors(path, options.device)
    return _open_onnx(path, options)


def _open_onnx(file: Path, options: _Options) -> Predictor:
    return Predictor.from_onnx(file, device=options.device, threads=options.threads, runtime=options.runtime)


def _open_precision(float32_file: Path, int8_file: Path, options: _Options) -> Predictor:
    """Return the predictor of one of a model's two files, of which the second may be missing, as `precision` says."""
    if options.precision == "int8" and int8_file.is_file():
        return _open_onnx(int8_file, options)
    float32 = _open_onnx(float32_file, options)
    on_cpu = not uses_gpu(options.device) and options.runtime == DEFAULT_RUNTIME
    if not (options.precision == "auto" and on_cpu and int8_file.is_file() and has_int8_instructions()):
        return float32
    try:
        int8 = _open_onnx(int8_file, options)
    except NephrosError as error:
        logger.warning("The model predicts in float32, since its int8 file can't be opened. %s", error)
        return float32
    keys: tuple[Literal["weights_sha256", "tta_views"], ...] = ("weights_sha256", "tta_views")
    is_same = all(int8.card["network"][key] == float32.card["network"][key] for key in keys)
    if is_same and loses_little(int8.card) and int8.speedup_over(float32) >= MIN_SPEEDUP:
        return int8
    return float32


def _open_large(float32_file: Path, int8_file: Path, options: _Options) -> Predictor:
    """Return the predictor of a bundled model without a float32 ONNX file, in int8 or, by torch, in float32."""
    takes_int8 = options.precision == "int8"
    if options.precision == "auto" and has_int8_instructions():
        takes_int8 = options.device == "cpu" or not _has_torch_gpu(options.device)
    if takes_int8 and int8_file.is_file():
        return _open_onnx(int8_file, options)
    if options.runtime != DEFAULT_RUNTIME:
        logger.warning("Torch predicts with %s: there is no float32 ONNX file of it for OpenVINO.", float32_file)
    return _load_from_safetensors(float32_file, options.device)


def _has_torch_gpu(device: str) -> bool:
    from nephros.device import resolve_device

    return resolve_device(device).type != "cpu"


def _load_from_safetensors(path: Path, device: str) -> Predictor:
    from nephros.device import resolve_device
    from nephros.exporters.packaging import run_module
    from nephros.exporters.safetensors_io import load_safetensors

    torch_device = resolve_device(device)
    module, card = load_safetensors(path)
    module.to(torch_device)
    return Predictor(lambda cells: run_module(module, cells), card).checked(path)


def _load_from_run(path: Path, options: _Options) -> Predictor:
    from nephros.files import file_digest
    from nephros.runs import RunFolder

    folder = RunFolder.open(path)
    weights = folder.file("weights.safetensors")
    if not weights.is_file():
        raise IncompleteError(f"{path} has no weights yet: finish it with `nephros.resume({str(path)!r})`.")
    weights_sha256 = file_digest(weights)
    onnx_files = folder.file("export", "model.onnx"), folder.file("export", "model-int8.onnx")
    packaged_file = folder.file("export", "model.safetensors")
    candidates: list[tuple[Path, Callable[[], Predictor]]] = [
        (onnx_files[0], lambda: _open_precision(*onnx_files, options)),
        (packaged_file, lambda: _load_from_safetensors(packaged_file, options.device)),
    ]
    if options.precision == "int8":
        candidates.insert(0, (onnx_files[1], lambda: _open_onnx(onnx_files[1], options)))
    for exported_file, open_exported in candidates:
        with contextlib.suppress(
            FileError, DivergedError, IncompatibleError
        ):  # a damaged or outdated file counts as missing
            if not exported_file.is_file():
                continue
            predictor = open_exported()
            is_current = predictor.card["network"]["weights_sha256"] == weights_sha256
            if is_current and (
                exported_file != packaged_file or _is_complete(packaged_file, predictor, folder, options)
            ):
                return predictor
    return _load_unexported_run(folder, options.device, options.tta)


def _is_complete(packaged_file: Path, predictor: Predictor, folder: RunFolder, options: _Options) -> bool:
    """Return whether a packaged run has all that packaging it now would give it."""
    has_tta = predictor.card["network"]["tta_views"] > 1 or bool(predictor.card.get("tta"))
    scores = folder.file("test", "metrics.json")
    has_test = not scores.is_file() or scores.stat().st_mtime <= packaged_file.stat().st_mtime
    return has_test and (has_tta or not options.tta)


def _load_unexported_run(folder: RunFolder, device: str, tta: bool) -> Predictor:
    from nephros.device import resolve_device
    from nephros.evaluation.scoring import load_run_model
    from nephros.exporters.export import store_packaged
    from nephros.exporters.packaging import build_export_bundle, probabilities_only, run_module

    torch_device = resolve_device(device)
    load_run_model(folder)  # before anything is said of packaging it

    if folder.recipe().is_classical:
        return Predictor(*probabilities_only(folder, torch_device)).checked(folder.root)
    logger.info(
        "%s has no exported model yet: fitting calibration and out-of-distribution detection, which takes about a minute",
        folder.root,
    )
    try:
        bundle = build_export_bundle(folder, tta=tta)
    except (NephrosError, OSError) as error:
        logger.warning(
            "No cell will be flagged as out of distribution, because the run can't be packaged: %s `nephros.export(%r, "
            "data=DATA)` packages it with its data wherever that is.",
            error,
            str(folder.root),
        )
        return Predictor(*probabilities_only(folder, torch_device)).checked(folder.root)
    module = bundle.module
    card = bundle.build_card(lambda cells: run_module(module, cells))
    predictor = Predictor(lambda cells: run_module(module, cells), card).checked(folder.root)
    if reason := store_packaged(folder, bundle, card):
        logger.warning(f"The calibration of {folder.root} is not kept, and will be fitted again each time: {reason}")
    module.to(torch_device)
    return predictor
