"""nephros predict."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nephros.commands.parser import MODEL_HELP, CommandParser
from nephros.errors import NephrosError

if TYPE_CHECKING:
    from nephros.inference.predictions import Predictions


def predict(argv: list[str]) -> int:
    """nephros predict"""
    parser = CommandParser(
        "predict",
        "Classify pictures of single cells. INPUT: PNG, TIFF (a page a cell) and JPEG files of 8 or 16 bits, 3-D stacks (TIFF), "
        "npz files with images, train_images, val_images or test_images, and folders of them (searched in sorted order, links "
        "followed, hidden files passed over). A row a cell: file, index (page or row, from 0; a stack's nucleus, from 1), split "
        "(of an npz), label, class_name, p_0 and so on, prediction_set, is_ood with its ood_reasons, and error where there is no "
        "answer. Without --out a table on the terminal, CSV where the output is piped.",
        epilog="Pictures are brought to the model's form: shrunk or enlarged to fit (bicubic), black added around those of "
        "another shape; 16-bit pixels divided so that the brightest of all 16-bit pictures given becomes 255 (or "
        "--white-level); colour made grey by .299 red + .587 green + .114 blue, alpha dropped. A TIFF is a stack where its "
        "metadata give a Z axis, or several pages have 256 pixels or more on both sides: its nuclei are marked "
        "roughly and cut out as by `nephros data prepare`, which also takes an exact mask, a channel and a voxel "
        "size. Notes say what was done. Exit status: 0 when all were answered, 1 when some were not (or an overlay "
        "could not be painted), 2 when none was: the table is written all the same, with each row's error. For research "
        "only, not for diagnosis.",
    )
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="pictures, stacks, npz files, folders of them")
    parser.option("model", MODEL_HELP, metavar="M")
    parser.option("out", "write all rows to a .csv, .json or .parquet file", metavar="FILE")
    parser.option("coverage", "share of cells whose prediction set shall hold the right class (default: 0.9)", float)
    parser.option(
        "white-level",
        "16-bit pixel value that becomes 255, such as 4095 or 65535 (default: the brightest given)",
        float,
    )
    parser.option(
        "overlay",
        "of an npz that `nephros data prepare` made: paint the classes over its stack, into a .png or .tif file",
        metavar="PICTURE",
    )
    parser.flag("model-card", "print the model's card as JSON")
    args = parser.parse_argv(argv)
    inputs, out = args.pop("inputs", None) or [], args.pop("out", None)
    print_card, model = args.pop("model_card", False), args.pop("model", None)
    overlay_path = args.pop("overlay", None)
    if not inputs and not print_card:
        raise NephrosError(
            "`nephros predict` needs pictures: name files, folders or npz. `nephros predict --help` tells more."
        )
    if inputs and print_card and out is None:
        raise NephrosError("--model-card and pictures would share the output: name a file for the table with --out.")
    out_path = None if out is None else Path(out).expanduser()
    overlay = None if overlay_path is None else (_overlay_notes(inputs, overlay_path), overlay_path)
    with _exit_on_broken_pipe():
        return _predict(inputs, model, out_path, print_card, overlay, args)


def _overlay_notes(inputs: list[str], overlay_path: str) -> Path:
    """Return the notes that `nephros data prepare` wrote beside the one npz; UserError when there are none."""
    from nephros.reporting.stack_overlay import check_overlay_suffix

    check_overlay_suffix(Path(overlay_path))
    notes = Path(inputs[0]).expanduser().with_suffix(".json") if inputs else Path()
    if len(inputs) != 1 or Path(inputs[0]).suffix != ".npz" or not notes.is_file():
        raise NephrosError(
            "--overlay needs one npz file with the notes (.json) beside it that `nephros data prepare` wrote: name that one."
        )
    return notes


def _predict(
    inputs: list[str],
    model: str | None,
    out: Path | None,
    print_card: bool,
    overlay: tuple[Path, str] | None,
    options: dict[str, Any],
) -> int:
    from nephros.exporters.loading import load_predictor
    from nephros.inference import predictions
    from nephros.inference.model_card import card_to_json
    from nephros.workflows.predict import predict as run_predict

    if out is not None:
        predictions.check_output_path(out)
    predictor = load_predictor(model, say=_print_stderr)
    if print_card:
        print(card_to_json(predictor.card), end="")
    if not inputs:
        return 0
    found = run_predict(inputs, predictor, **options)
    if out is not None:
        predictions.write_predictions(found, out)
        print(out, file=sys.stderr if print_card else sys.stdout)
    elif sys.stdout.isatty():
        predictions.print_predictions(found)
    else:
        predictions.write_csv(found, sys.stdout)
    for line in predictions.summary_lines(found):
        _print_stderr(line)
    if not found.has_prediction.any():
        return 2
    overlay_failed = overlay is not None and not _write_overlay(found, *overlay)
    return 1 if found.errors or overlay_failed else 0


def _write_overlay(found: Predictions, notes: Path, overlay_path: str) -> bool:
    """Write the overlay, or say why it can't be; the answers are out by then."""
    from nephros.inference.predictions import write_predictions
    from nephros.workflows.overlay import overlay

    with tempfile.TemporaryDirectory() as folder:
        csv_path = Path(folder) / "predictions.csv"
        write_predictions(found, csv_path)
        try:
            _print_stderr(str(overlay(notes, csv_path, overlay_path)))
        except NephrosError as error:
            _print_stderr(f"nephros: no overlay, but all answers: {error}")
            return False
    return True


def _print_stderr(message: str) -> None:
    print(message, file=sys.stderr)


@contextlib.contextmanager
def _exit_on_broken_pipe() -> Iterator[None]:
    """Within the block a reader of the output that leaves early, such as `head`, ends the command in silence."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
