"""What `nephros export`, `nephros predict` and `nephros serve` parse and call."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from argparse import SUPPRESS
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from nephros.commands import make_parser, parse
from nephros.errors import UserError

if TYPE_CHECKING:
    from nephros.serving.table import Predictions


def _add_model(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        type=str,
        default=SUPPRESS,
        metavar="M",
        help="a run folder, or a file that `nephros export` wrote (default: the model that comes with nephros)",
    )


def export(words: list[str]) -> int:
    """nephros export"""
    parser = make_parser(
        "export",
        "Write a trained run as one file that answers without its run folder: preprocessing and network, calibrated on "
        "validation, with its model card inside and beside it. The run's data must be at hand: what a familiar cell looks "
        "like is fitted on its train split, temperature and prediction sets on validation; the test split is not read.",
    )
    parser.add_argument("run", help="a folder that `nephros train` made")
    parser.add_argument(
        "--to",
        type=str,
        default=SUPPRESS,
        help="onnx (for `nephros predict` and any ONNX runtime) or safetensors (for torch) (default: onnx)",
    )
    parser.add_argument(
        "--out",
        type=str,
        default=SUPPRESS,
        metavar="FILE",
        help="the file (default: RUN/export/model.onnx or the like)",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        default=SUPPRESS,
        help="convolutions in eight bits; prints the accuracy that it costs",
    )
    parser.add_argument(
        "--views", type=int, default=SUPPRESS, help="8 averages over an image's flips and quarter-turns (default: 1)"
    )
    parser.add_argument(
        "--box", action="store_true", default=SUPPRESS, help="for developers: make it the model that comes with nephros"
    )
    given = parse(parser, words).as_dict()
    from nephros.serving import export as job

    if given.pop("box", False):
        if set(given) - {"run", "views"}:
            raise UserError("--box writes all formats in their place: leave --to, --out and --int8 out.")
        print(job.fill_box(given.pop("run"), **given))
        return 0
    print(job.export(given.pop("run"), **given))
    return 0


def predict(words: list[str]) -> int:
    """nephros predict"""
    parser = make_parser(
        "predict",
        "Classify pictures of single cells. INPUT: PNG, TIFF (a page a cell) and JPEG files of 8 or 16 bits, folders of them "
        "(searched in sorted order), and npz files with images, train_images, val_images or test_images. A row a cell: file, "
        "index (page or row), split (of an npz), label, class_name, p_0 and so on, prediction_set, unfamiliar with its reason, "
        "and error where there is no answer. Without --out a table on the terminal, CSV where the output is piped.",
        epilog="Pictures are brought to the model's form: shrunk or enlarged to fit (bicubic), black added around those of "
        "another shape; 16-bit pixels divided so that the brightest of all 16-bit pictures given becomes 255 (or --white); "
        "colour made grey by .299 red + .587 green + .114 blue, alpha dropped. Notes say what was done. Exit status: 0 when "
        "all were answered, 1 when some were not, 2 when none was. For research only, not for diagnosis.",
    )
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="pictures, folders of pictures, npz files")
    _add_model(parser)
    parser.add_argument(
        "--out", type=str, default=SUPPRESS, metavar="FILE", help="write all rows to a .csv, .json or .parquet file"
    )
    parser.add_argument(
        "--coverage",
        type=float,
        default=SUPPRESS,
        help="share of cells whose prediction set shall hold the right class (default: 0.9)",
    )
    parser.add_argument(
        "--white",
        type=float,
        default=SUPPRESS,
        help="16-bit pixel value that becomes 255, such as 4095 or 65535 (default: the brightest given)",
    )
    parser.add_argument(
        "--overlay",
        type=str,
        default=SUPPRESS,
        metavar="PICTURE",
        help="of an npz that `nephros data prepare` made: paint the classes over its stack, into a .png or .tif file",
    )
    parser.add_argument("--model_card", action="store_true", default=SUPPRESS, help="print the model's card as JSON")
    given = parse(parser, words).as_dict()
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
    from nephros.reporting.overlay import check_suffix

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
    from nephros.serving import table
    from nephros.serving.card import to_text
    from nephros.serving.opening import open_model
    from nephros.serving.predict import predict as job

    if out is not None:
        table.check_out(out)
    engine = open_model(model, say=_aside)
    if with_card:
        print(to_text(engine.card), end="")
    if not inputs:
        return 0
    found = job(inputs, engine, **given)
    if len(found.errors) == len(found):
        first, *rest = found.errors.values()
        raise UserError(
            table.plain(first) + (f" (None of the {len(rest)} other inputs could be answered either.)" if rest else "")
        )
    if out is not None:
        table.write(found, out)
        print(out, file=sys.stderr if with_card else sys.stdout)
    elif sys.stdout.isatty():
        table.show(found)
    else:
        table.write_csv(found, sys.stdout)
    if overlay is not None:
        _paint(found, *overlay)
    for line in table.lines(found):
        _aside(line)
    return 1 if found.errors else 0


def _paint(found: Predictions, notes: Path, picture: str) -> None:
    from nephros.jobs.overlay import overlay
    from nephros.serving.table import write

    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "predictions.csv"
        write(found, rows)
        _aside(str(overlay(notes, rows, picture)))


def serve(words: list[str]) -> int:
    """nephros serve"""
    parser = make_parser(
        "serve",
        "A page in the browser, and a JSON API, that classify pictures of single cells with a trained model. Pictures stay in "
        "this machine's memory and are forgotten with the answer; the page loads nothing from elsewhere.",
        epilog="The page is at the address that is printed; /api describes the API, /openapi.json for programs. Example: "
        "curl -F files=@cell.png 'http://127.0.0.1:8000/predict?coverage=0.95'. For research only, not for diagnosis.",
    )
    parser.add_argument(
        "--host",
        type=str,
        default=SUPPRESS,
        help="address to listen on, such as 0.0.0.0 to let others in; there is no password (default: this machine only)",
    )
    parser.add_argument("--port", type=int, default=SUPPRESS, help="0 takes a free one (default: 8000)")
    _add_model(parser)
    parser.add_argument(
        "--known",
        type=str,
        default=SUPPRESS,
        metavar="DATA",
        help="show similar training cells of this data, a name such as tissuemnist or an npz file; none for none "
        "(default: TissueMNIST where it is on this machine)",
    )
    given = parse(parser, words).as_dict()
    with _needs_fastapi():
        from nephros.serving.server import serve as job
    job(given.pop("model", None), say=lambda line: print(line, flush=True), **given)
    return 0


@contextlib.contextmanager
def _needs_fastapi() -> Iterator[None]:
    """Within the block a missing part of nephros[serve] is one sentence."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in (
            "fastapi",
            "starlette",
            "pydantic",
            "uvicorn",
            "h11",
            "python_multipart",
        ):
            raise
        raise UserError("Serving needs fastapi, uvicorn and python-multipart: pip install 'nephros[serve]'.") from None


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
