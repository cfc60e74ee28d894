"""Export a trained run as one file that predicts without its run folder, with its model card beside it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import get_args

from nephros.data.dataset import Dataset
from nephros.data.volumes import n_planes
from nephros.errors import IncompatibleError, IncompleteError, InvalidArgument
from nephros.evaluation.largest_class import no_better_than_largest_class
from nephros.evaluation.metrics import Metrics
from nephros.exporters.model_card_markdown import card_to_markdown, fitted_calibration_error
from nephros.exporters.onnx_export import (
    check_parity,
    embed_card,
    require_onnx,
    to_onnx,
)
from nephros.exporters.packaging import ExportBundle, build_export_bundle, run_module
from nephros.exporters.quantization import quantize_int8
from nephros.exporters.safetensors_io import to_safetensors
from nephros.files import atomic_write, check_writable, write_text
from nephros.inference import bundled
from nephros.inference.card_json import card_to_json
from nephros.inference.model_card import (
    CARD_METADATA_KEY,
    ExportFacts,
    ExportFormat,
    ModelCard,
    training_subset,
)
from nephros.inference.onnx_session import onnx_forward_fn
from nephros.inference.precision import loses_little
from nephros.recipe import TTA_VIEW_COUNTS
from nephros.runs import RunFolder, RunInfo

logger = logging.getLogger(__name__)


def export(
    run: str | Path,
    format: str = "onnx",
    *,
    out: str | Path | None = None,
    int8: bool = False,
    tta_views: int | None = None,
    data: str | Path | Dataset | None = None,
    force: bool = False,
) -> Path:
    """Write a finished run's model, with its card inside and beside it as JSON and Markdown, and return the file.

    Args:
        run: the run folder. Its data must be available: train and validation are read, test never is.
        format: ``onnx`` or ``safetensors``.
        out: the file; by default ``export/model.onnx`` or the like in the run folder. The cards have the same name with
            ``.card.json`` and ``.card.md`` in place of its suffix.
        int8: quantize the convolutions of the ONNX model to eight bits.
        tta_views: number of views of each image over which the network in the file averages (1, 5, 8 or 40, as in a recipe), for
            programs other than nephros; by default 1, and nephros averages around it where `tta` asks for that. A fine-tuned run
            keeps its own number by default, since its calibration is of these views.
        data: the run's data, or its path or name now; None looks for it where the run found it, and near the run folder.
        force: export also a run that is no better than always predicting the largest class.

    Raises:
        NephrosError: the run can't be exported, or ONNX Runtime does not reproduce torch's probabilities. Then nothing is
            written.
    """
    if format not in get_args(ExportFormat):
        raise InvalidArgument("format", format, f"one of {', '.join(get_args(ExportFormat))}")
    if int8 and format != "onnx":
        raise InvalidArgument("format", format, "onnx", hint="Only ONNX models are quantized: leave out `int8`.")
    if tta_views is not None and tta_views not in TTA_VIEW_COUNTS:
        raise InvalidArgument("tta_views", tta_views, "1, 5, 8 or 40")
    folder = RunFolder.open(run)
    default_name = f"model-int8.{format}" if int8 else f"model.{format}"
    target = Path(out).expanduser() if out else folder.file("export", default_name)
    if target.suffix != f".{format}" or target.is_dir():
        raise InvalidArgument("out", target, f"a file that ends in .{format}")
    check_writable(target)
    if not force:
        _check_better_than_largest_class(folder)
    bundle = _build_bundle(folder, format, tta_views, data, int8=int8)
    content, card = _export_onnx(bundle, int8) if format == "onnx" else _export_safetensors(bundle, folder)
    _write_with_cards(target, content, card)
    for line in summarize_card(card):
        logger.info(line)
    return target


def store_packaged(folder: RunFolder, bundle: ExportBundle, card: ModelCard) -> str:
    """Write a packaged run as its export/model.safetensors, so that it is packaged once; return why not, or "".

    Of a run that `export` would refuse, and in a folder that can't be written, nothing is stored.
    """
    if sentence := _no_better_than_largest_class(folder):
        return sentence
    try:
        content, _ = _export_safetensors(bundle, folder, card)
        _write_with_cards(folder.file("export", "model.safetensors"), content, card)
    except OSError as error:
        return f"{error.strerror or error}."
    return ""


def _write_with_cards(target: Path, content: bytes, card: ModelCard) -> None:
    """Write an exported model and, beside it, its card as JSON and Markdown."""
    with atomic_write(target) as file:
        file.write(content)
    write_text(target.with_suffix(".card.json"), card_to_json(card))
    write_text(target.with_suffix(".card.md"), card_to_markdown(card))


def update_bundled_model(run: str | Path, *, tta_views: int | None = None) -> Path:
    """Make a finished run the bundled model of its recipe's name, and return the folder of its files.

    Raises NephrosError as `export` does.
    """
    folder = RunFolder.open(run)
    bundle = _build_bundle(folder, "onnx", tta_views, int8=True)
    onnx_model, card = _export_onnx(bundle, False)
    int8_model, int8_card = _export_onnx(bundle, True)
    weights, _ = _export_safetensors(bundle, folder, card)
    for line in summarize_card(card):
        logger.info(line)
    return write_bundled_model(
        folder.info().recipe, card, onnx_model, weights, int8_model if loses_little(int8_card) else None
    )


def write_bundled_model(
    name: str, card: ModelCard, onnx_model: bytes | None, weights: bytes, int8_model: bytes | None
) -> Path:
    """Write the files of a bundled model and return their folder; without `int8_model`, it predicts in float32 everywhere.

    An `onnx_model` above `MAX_FLOAT32_ONNX_BYTES` is left out.
    """
    files = {
        "model.safetensors": weights,
        "card.json": card_to_json(card).encode(),
        "card.md": card_to_markdown(card).encode(),
    }
    if onnx_model is not None and len(onnx_model) <= bundled.MAX_FLOAT32_ONNX_BYTES:
        files["model.onnx"] = onnx_model
    if int8_model is not None:
        files["model-int8.onnx"] = int8_model
    return bundled.write_bundled_files(name, files)


def summarize_card(card: ModelCard) -> list[str]:
    """Return the calibration, test and out-of-distribution figures of a card, a line each."""
    calibration, sets, ood_detector = card["calibration"], card["conformal"]["test"], card["ood_detector"]
    ece = calibration["expected_calibration_error"]
    trained_on = f" (trained on a {training_subset(card)})" if training_subset(card) else ""
    where, fitted_error = fitted_calibration_error(ece)
    lines = [
        f"temperature {calibration['temperature']:.3f}: expected calibration error on {where} {fitted_error['before']:.4f} "
        f"before, {fitted_error['after']:.4f} after"
    ]
    if folds := card.get("cross_validation"):
        lines.append(f"cross-validation: accuracy {folds['accuracy']:.4f} on {folds['n']:,} training images")
    if ece["test"] and sets:
        lines.append(
            f"test: accuracy {card['test_accuracy']:.4f}{trained_on}, calibration error {ece['test']['before']:.4f} before, "
            f"{ece['test']['after']:.4f} after; prediction sets for {sets['target_coverage']:.0%} contained the true class of "
            f"{sets['coverage']:.1%} with {sets['mean_set_size']:.2f} classes on average"
        )
    if ood_detector:
        fractions = ood_detector["flagged_fraction"].items()
        flagged = ", ".join(f"{fraction:.1%} of {kind.replace('_', ' ')}" for kind, fraction in fractions)
        lines.append(f"flagged as out of distribution: {flagged}")
    return lines


def _no_better_than_largest_class(folder: RunFolder) -> str:
    metrics_file = folder.file("val", "metrics.json")
    return no_better_than_largest_class(folder.info(), Metrics.load(metrics_file)) if metrics_file.is_file() else ""


def _check_better_than_largest_class(folder: RunFolder) -> None:
    if sentence := _no_better_than_largest_class(folder):
        raise IncompleteError(
            f"{folder.root} is not exported. {sentence} {_advice(folder.info())}, or export it all the same with `force`."
        )


def _advice(info: RunInfo) -> str:
    return "Train on more images or for longer" if info.finetuning is None else "Label more images"


def _build_bundle(
    folder: RunFolder,
    format: str,
    tta_views: int | None,
    data: str | Path | Dataset | None = None,
    *,
    int8: bool = False,
) -> ExportBundle:
    recipe = folder.recipe()
    if recipe.is_classical:
        raise IncompatibleError(
            f"{folder.root} is a classical baseline ({recipe.model.network}), which can't be exported; "
            f"`nephros.predict(IMAGES, model={str(folder.root)!r})` uses it in place."
        )
    if int8 and "depth" in folder.info().input_spec:
        hint = "Leave it out: the file in float32 predicts the same classes."
        raise InvalidArgument(
            "int8", "on", "off for a network of volumes, since only 2-D convolutions are quantized", hint=hint
        )
    if format == "onnx":
        with require_onnx():
            import onnx  # noqa: F401, before the long work
            import onnxscript  # noqa: F401
    logger.info("%s: fitting calibration and out-of-distribution detection on train and validation", recipe.name)
    return build_export_bundle(folder, tta_views, data)


def _export_onnx(bundle: ExportBundle, int8: bool) -> tuple[bytes, ModelCard]:
    input_spec = bundle.info.input_spec
    model = to_onnx(bundle.module, n_planes(input_spec), input_spec["height"], input_spec["width"])
    difference = check_parity(bundle.module, model, bundle.dataset.val.images)
    logger.info("ONNX Runtime reproduces torch's probabilities to within %.1e", difference)
    card = bundle.build_card(onnx_forward_fn(model), {**bundle.network_facts, "onnx_max_abs_error": difference})
    if int8:
        model, card = _quantize(bundle, model, card)
    return embed_card(model, card_to_json(card), CARD_METADATA_KEY), card


def _quantize(bundle: ExportBundle, model: bytes, float32_card: ModelCard) -> tuple[bytes, ModelCard]:
    """Return the model with convolutions in eight bits, and a card that says what accuracy this costs."""
    model, quantization = quantize_int8(model, bundle.dataset.train.images)
    network_facts: ExportFacts = {
        **bundle.network_facts,
        "onnx_max_abs_error": float32_card["network"]["onnx_max_abs_error"],
        "precision": "int8",
        "quantization": quantization,
    }
    card = bundle.build_card(onnx_forward_fn(model), network_facts)
    float32_accuracy, int8_accuracy = float32_card["validation"]["accuracy"], card["validation"]["accuracy"]
    drop = float32_accuracy - int8_accuracy
    quantization["validation_accuracy"] = {"float32": float32_accuracy, "int8": int8_accuracy, "drop": drop}
    logger.info("validation accuracy %.4f in float32 and %.4f in int8 (%+.4f)", float32_accuracy, int8_accuracy, -drop)
    return model, card


def _export_safetensors(
    bundle: ExportBundle, folder: RunFolder, card: ModelCard | None = None
) -> tuple[bytes, ModelCard]:
    card = card or bundle.build_card(lambda cells: run_module(bundle.module, cells))
    return to_safetensors(bundle.module, folder.recipe().model, card), card
