"""`nephros export`: a trained run as one file that works without its run folder, with its card beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np

from nephros.errors import NephrosError
from nephros.exporters.model_card_markdown import card_to_markdown
from nephros.exporters.onnx_export import (
    N_CALIBRATION_CELLS,
    check_parity,
    embed_card,
    quantize_int8,
    require_onnx,
    to_onnx,
)
from nephros.exporters.packaging import ExportBundle, build_export_bundle, run_module
from nephros.exporters.safetensors_io import to_safetensors
from nephros.files import atomic_write, write_text
from nephros.inference import bundled
from nephros.inference.model_card import CARD_METADATA_KEY, ExportFormat, card_to_json
from nephros.inference.predictor import onnx_forward_fn
from nephros.recipe_io import read_recipe
from nephros.recipe_parts import ModelConfig
from nephros.runs import RunFolder

Say = Callable[[str], None]


def export(
    run: str | Path,
    format: str = "onnx",
    *,
    out: str | Path | None = None,
    int8: bool = False,
    tta_views: int | None = None,
    say: Say = print,
) -> Path:
    """Write a finished run's model with its card inside and return the file; it also lies beside it, as JSON and as Markdown.

    Args:
        run: the run folder; its data must be at hand, of which train and validation are read and never test.
        to: ``onnx`` or ``safetensors``.
        out: the file; by default ``export/model.onnx`` or the like in the run folder. The cards are called
            ``.card.json`` and ``.card.md`` in place of its suffix.
        int8: write the convolutions of the ONNX model in eight bits.
        views: of each image that are averaged (1, 5, 8 or 40; a recipe's `tta_views` says which); by default the run's own.

    Raises:
        UserError: the run can't be exported, or ONNX Runtime does not give torch's answers. Then nothing is written.
    """
    if format not in get_args(ExportFormat):
        raise NephrosError(f"--format is {format}, but it must be one of {', '.join(get_args(ExportFormat))}.")
    if int8 and format != "onnx":
        raise NephrosError("--int8 is for ONNX: leave it out, or use --format onnx.")
    folder = RunFolder.open(run)
    target = (
        Path(out).expanduser() if out else folder.file("export", f"model-int8.{format}" if int8 else f"model.{format}")
    )
    if target.suffix != f".{format}" or target.is_dir():
        raise NephrosError(f"--out is {target}, but it must name a file that ends in .{format}.")
    bundle = _build_bundle(folder, format, tta_views, say)
    content, card = _export_onnx(bundle, int8, say) if format == "onnx" else _export_safetensors(bundle, folder)
    with atomic_write(target) as file:
        file.write(content)
    write_text(target.with_suffix(".card.json"), card_to_json(card))
    write_text(target.with_suffix(".card.md"), card_to_markdown(card))
    say(summarize_card(card))
    return target


def update_bundled_model(run: str | Path, *, tta_views: int | None = None, say: Say = print) -> Path:
    """Make a finished run the model that comes with nephros, and return the box's folder; UserError as `export` raises it."""
    folder = RunFolder.open(run)
    bundle = _build_bundle(folder, "onnx", tta_views, say)
    onnx_model, card = _export_onnx(bundle, False, say)
    weights, _ = _export_safetensors(bundle, folder, card)
    cards = {"card.json": card_to_json(card).encode(), "card.md": card_to_markdown(card).encode()}
    files = {"model.onnx": onnx_model, "model.safetensors": weights, **cards}
    say(summarize_card(card))
    return bundled.write_bundled_files(files)


def summarize_card(card: dict[str, Any]) -> str:
    """Return what a card says of its model, in three lines."""
    flagged, ece = card["ood_detector"]["flagged_fraction"], card["calibration"]["expected_calibration_error"]
    lines = [
        f"temperature {card['calibration']['temperature']:.3f}: expected calibration error on validation "
        f"{ece['validation']['before']:.4f} before, {ece['validation']['after']:.4f} after"
    ]
    if ece["test"]:
        sets = card["conformal"]["test"]
        lines.append(
            f"test: accuracy {card['test_accuracy']:.4f}, calibration error {ece['test']['before']:.4f} before, "
            f"{ece['test']['after']:.4f} after; sets for {sets['target_coverage']:.0%} held the class of {sets['coverage']:.1%} "
            f"with {sets['mean_set_size']:.2f} classes on average"
        )
    lines.append("called unfamiliar: " + ", ".join(f"{fraction:.1%} of {kind}" for kind, fraction in flagged.items()))
    return "\n".join(lines)


def _build_bundle(folder: RunFolder, format: str, tta_views: int | None, say: Say) -> ExportBundle:
    recipe = read_recipe(folder.file("recipe.yaml"))
    if recipe.is_classical:
        raise NephrosError(
            f"{folder.root} is a classical baseline ({recipe.model.network}), which can't be exported: "
            f"`nephros predict --model {folder.root}` uses it where it is."
        )
    if format == "onnx":
        with require_onnx():
            import onnx  # noqa: F401, before the long work
            import onnxscript  # noqa: F401
    say(f"fitting {recipe.name}'s temperature, prediction sets and what is familiar on its train and validation splits")
    return build_export_bundle(folder, tta_views)


def _export_onnx(bundle: ExportBundle, int8: bool, say: Say) -> tuple[bytes, dict[str, Any]]:
    shape = bundle.info.input_spec
    model = to_onnx(bundle.module, shape["channels"], shape["height"], shape["width"])
    difference = check_parity(bundle, model)
    say(f"ONNX Runtime gives torch's probabilities to {difference:.1e}")
    network_facts: dict[str, Any] = {"onnx_max_abs_error": difference}
    card = bundle.build_card(onnx_forward_fn(model), **network_facts)
    if int8:
        images = bundle.dataset.val.images
        images = images[np.linspace(0, len(images) - 1, min(N_CALIBRATION_CELLS, len(images))).astype(int)]
        model = quantize_int8(model, images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2))
        float32_accuracy = card["validation"]["accuracy"]
        method = f"static, convolutions alone, weights a channel; ranges of {len(images)} validation images"
        card = bundle.build_card(
            onnx_forward_fn(model), **network_facts, precision="int8", quantization={"method": method}
        )
        int8_accuracy = card["validation"]["accuracy"]
        card["network"]["quantization"]["validation_accuracy"] = {
            "float32": float32_accuracy,
            "int8": int8_accuracy,
            "drop": float32_accuracy - int8_accuracy,
        }
        say(
            f"validation accuracy {float32_accuracy:.4f} in float32 and {int8_accuracy:.4f} in eight bits: "
            f"{float32_accuracy - int8_accuracy:.4f} lost"
        )
    return embed_card(model, card_to_json(card), CARD_METADATA_KEY), card


def _export_safetensors(
    bundle: ExportBundle, folder: RunFolder, card: dict[str, Any] | None = None
) -> tuple[bytes, dict[str, Any]]:
    model: ModelConfig = read_recipe(folder.file("recipe.yaml")).model
    card = card or bundle.build_card(lambda cells: run_module(bundle.module, cells))
    return to_safetensors(bundle.module, model, bundle.info, card), card
