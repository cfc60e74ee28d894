"""nephros predict."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nephros.commands.parser import MODEL, Flags
from nephros.errors import UserError

if TYPE_CHECKING:
    from nephros.inference.predictions import Predictions


def predict(words: list[str]) -> int:
    """nephros predict"""
    flags = Flags(
        "predict",
        "Classify pictures of single cells. INPUT: PNG, TIFF (a page a cell) and JPEG files of 8 or 16 bits, 3-D stacks (TIFF), "
        "npz files with images, train_images, val_images or test_images, and folders of them (searched in sorted order, links "
        "followed, hidden files passed over). A row a cell: file, index (page or row, from 0; a stack's nucleus, from 1), split "
        "(of an npz), label, class_name, p_0 and so on, prediction_set, unfamiliar with its reason, and error where there is no "
        "answer. Without --out a table on the terminal, CSV where the output is piped.",
        epilog="Pictures are brought to the model's form: shrunk or enlarged to fit (bicubic), black added around those of "
        "another shape; 16-bit pixels divided so that the brightest of all 16-bit pictures given becomes 255 (or "
        "--white); colour made grey by .299 red + .587 green + .114 blue, alpha dropped. A TIFF is a stack where its "
        "metadata give a Z axis, or several pages have 256 pixels or more on both sides: its nuclei are marked "
        "roughly and cut out as by `nephros data prepare`, which also takes an exact mask, a channel and a voxel "
        "size. Notes say what was done. Exit status: 0 when all were answered, 1 when some were not (or an overlay "
        "could not be painted), 2 when none was: the table is written all the same, with each row's error. For research "
        "only, not for diagnosis.",
    )
    flags.add_argument("inputs", nargs="*", metavar="INPUT", help="pictures, stacks, npz files, folders of them")
    flags.value("model", MODEL, shown="M")
    flags.value("out", "write all rows to a .csv, .json or .parquet file", shown="FILE")
    flags.value("coverage", "share of cells whose prediction set shall hold the right class (default: 0.9)", float)
    flags.value(
        "white", "16-bit pixel value that becomes 255, such as 4095 or 65535 (default: the brightest given)", float
    )
    flags.value(
        "overlay",
        "of an npz that `nephros data prepare` made: paint the classes over its stack, into a .png or .tif file",
        shown="PICTURE",
    )
    flags.switch("model-card", "print the model's card as JSON")
    given = flags.read(words)
    inputs, out = given.pop("inputs", None) or [], given.pop("out", None)
    card, model = given.pop("model_card", False), given.pop("model", None)
    picture = given.pop("overlay", None)
    if not inputs and not card:
        raise UserError(
            "`nephros predict` needs pictures: name files, folders or npz. `nephros predict --help` tells more."
        )
    if inputs and card and out is None:
        raise UserError("--model-card and pictures would share the output: name a file for the table with --out.")
    target = None if out is None else Path(out).expanduser()
    overlay = None if picture is None else (_notes_of(inputs, picture), picture)
    with _to_pipe():
        return _predict(inputs, model, target, card, overlay, given)


def _notes_of(inputs: list[str], picture: str) -> Path:
    """Return the notes that `nephros data prepare` wrote beside the one npz; UserError when there are none."""
    from nephros.reporting.stack_overlay import check_suffix

    check_suffix(Path(picture))
    notes = Path(inputs[0]).expanduser().with_suffix(".json") if inputs else Path()
    if len(inputs) != 1 or Path(inputs[0]).suffix != ".npz" or not notes.is_file():
        raise UserError(
            "--overlay needs one npz file with the notes (.json) beside it that `nephros data prepare` wrote: name that one."
        )
    return notes


def _predict(
    inputs: list[str],
    model: str | None,
    out: Path | None,
    with_card: bool,
    overlay: tuple[Path, str] | None,
    given: dict[str, Any],
) -> int:
    from nephros.exporters.loading import open_model
    from nephros.inference import predictions
    from nephros.inference.model_card import to_text
    from nephros.workflows.predict import predict as job

    if out is not None:
        predictions.check_out(out)
    engine = open_model(model, say=_aside)
    if with_card:
        print(to_text(engine.card), end="")
    if not inputs:
        return 0
    found = job(inputs, engine, **given)
    if out is not None:
        predictions.write(found, out)
        print(out, file=sys.stderr if with_card else sys.stdout)
    elif sys.stdout.isatty():
        predictions.show(found)
    else:
        predictions.write_csv(found, sys.stdout)
    for line in predictions.lines(found):
        _aside(line)
    if not found.answered.any():
        return 2
    unpainted = overlay is not None and not _painted(found, *overlay)
    return 1 if found.errors or unpainted else 0


def _painted(found: Predictions, notes: Path, picture: str) -> bool:
    """Write the overlay, or say why it can't be; the answers are out by then."""
    from nephros.inference.predictions import write
    from nephros.workflows.overlay import overlay

    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "predictions.csv"
        write(found, rows)
        try:
            _aside(str(overlay(notes, rows, picture)))
        except UserError as error:
            _aside(f"nephros: no overlay, but all answers: {error}")
            return False
    return True


def _aside(words: str) -> None:
    print(words, file=sys.stderr)


@contextlib.contextmanager
def _to_pipe() -> Iterator[None]:
    """Within the block a reader of the output that leaves early, such as `head`, ends the command in silence."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
