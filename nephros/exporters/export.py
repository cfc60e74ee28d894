"""`nephros export`: a trained run as one file that works without its run folder, with its card beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np

from nephros.errors import UserError
from nephros.exporters.model_card_markdown import to_markdown
from nephros.exporters.onnx_export import CALIBRATION_CELLS, check_parity, needs_onnx, quantise, to_onnx, with_card
from nephros.exporters.packaging import Package, package, run_module
from nephros.exporters.safetensors_io import pack
from nephros.files import atomic, write_text
from nephros.inference import bundled
from nephros.inference.model_card import KEY, Format, to_text
from nephros.inference.predictor import session_network
from nephros.recipe_io import read
from nephros.recipe_parts import Model
from nephros.runs import RunFolder

Say = Callable[[str], None]


def export(
    run: str | Path,
    to: str = "onnx",
    *,
    out: str | Path | None = None,
    int8: bool = False,
    views: int | None = None,
    say: Say = print,
) -> Path:
    """Write a finished run's model with its card inside and return the file; it also lies beside it, as JSON and as Markdown.

    Args:
        run: the run folder; its data must be at hand, of which train and validation are read and never test.
        to: ``onnx`` or ``safetensors``.
        out: the file; by default ``export/model.onnx`` or the like in the run folder. The cards are called
            ``.card.json`` and ``.card.md`` in place of its suffix.
        int8: write the convolutions of the ONNX model in eight bits.
        views: of each image that are averaged (1, 5, 8 or 40; a recipe's `views` says which); by default the run's own.

    Raises:
        UserError: the run can't be exported, or ONNX Runtime does not give torch's answers. Then nothing is written.
    """
    if to not in get_args(Format):
        raise UserError(f"--to is {to}, but it must be one of {', '.join(get_args(Format))}.")
    if int8 and to != "onnx":
        raise UserError("--int8 is for ONNX: leave it out, or use --to onnx.")
    folder = RunFolder.open(run)
    target = Path(out).expanduser() if out else folder.file("export", f"model-int8.{to}" if int8 else f"model.{to}")
    if target.suffix != f".{to}" or target.is_dir():
        raise UserError(f"--out is {target}, but it must name a file that ends in .{to}.")
    ready = _package(folder, to, views, say)
    content, card = _onnx(ready, int8, say) if to == "onnx" else _safetensors(ready, folder)
    with atomic(target) as file:
        file.write(content)
    write_text(target.with_suffix(".card.json"), to_text(card))
    write_text(target.with_suffix(".card.md"), to_markdown(card))
    say(summary(card))
    return target


def fill_box(run: str | Path, *, views: int | None = None, say: Say = print) -> Path:
    """Make a finished run the model that comes with nephros, and return the box's folder; UserError as `export` raises it."""
    folder = RunFolder.open(run)
    ready = _package(folder, "onnx", views, say)
    onnx, card = _onnx(ready, False, say)
    weights, _ = _safetensors(ready, folder, card)
    cards = {"card.json": to_text(card).encode(), "card.md": to_markdown(card).encode()}
    files = {"model.onnx": onnx, "model.safetensors": weights, **cards}
    say(summary(card))
    return bundled.fill(files)


def summary(card: dict[str, Any]) -> str:
    """Return what a card says of its model, in three lines."""
    unfamiliarity, error = card["unfamiliarity"]["flagged"], card["calibration"]["expected_calibration_error"]
    lines = [
        f"temperature {card['calibration']['temperature']:.3f}: expected calibration error on validation "
        f"{error['validation']['before']:.4f} before, {error['validation']['after']:.4f} after"
    ]
    if error["test"]:
        sets = card["conformal"]["measured_on_test"]
        lines.append(
            f"test: accuracy {card['test_accuracy']:.4f}, calibration error {error['test']['before']:.4f} before, "
            f"{error['test']['after']:.4f} after; sets for {sets['asked']:.0%} held the class of {sets['coverage']:.1%} "
            f"with {sets['mean_set_size']:.2f} classes on average"
        )
    lines.append("called unfamiliar: " + ", ".join(f"{share:.1%} of {kind}" for kind, share in unfamiliarity.items()))
    return "\n".join(lines)


def _package(folder: RunFolder, to: str, views: int | None, say: Say) -> Package:
    recipe = read(folder.file("recipe.yaml"))
    if recipe.classical:
        raise UserError(
            f"{folder.root} is a classical baseline ({recipe.model.network}), which can't be exported: "
            f"`nephros predict --model {folder.root}` uses it where it is."
        )
    if to == "onnx":
        with needs_onnx():
            import onnx  # noqa: F401, before the long work
            import onnxscript  # noqa: F401
    say(f"fitting {recipe.name}'s temperature, prediction sets and what is familiar on its train and validation splits")
    return package(folder, views)


def _onnx(ready: Package, int8: bool, say: Say) -> tuple[bytes, dict[str, Any]]:
    shape = ready.info.shape
    model = to_onnx(ready.module, shape["channels"], shape["height"], shape["width"])
    difference = check_parity(ready, model)
    say(f"ONNX Runtime gives torch's probabilities to {difference:.1e}")
    about: dict[str, Any] = {"parity": difference}
    card = ready.card(session_network(model), **about)
    if int8:
        images = ready.dataset.val.images
        images = images[np.linspace(0, len(images) - 1, min(CALIBRATION_CELLS, len(images))).astype(int)]
        model = quantise(model, images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2))
        full = card["validation"]["accuracy"]
        method = f"static, convolutions alone, weights a channel; ranges of {len(images)} validation images"
        card = ready.card(session_network(model), **about, precision="int8", quantisation={"method": method})
        eight = card["validation"]["accuracy"]
        card["network"]["quantisation"]["validation_accuracy"] = {"float32": full, "int8": eight, "loss": full - eight}
        say(f"validation accuracy {full:.4f} in float32 and {eight:.4f} in eight bits: {full - eight:.4f} lost")
    return with_card(model, to_text(card), KEY), card


def _safetensors(ready: Package, folder: RunFolder, card: dict[str, Any] | None = None) -> tuple[bytes, dict[str, Any]]:
    model: Model = read(folder.file("recipe.yaml")).model
    card = card or ready.card(lambda cells: run_module(ready.module, cells))
    return pack(ready.module, model, ready.info, card), card
